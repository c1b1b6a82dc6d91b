"""The manifests of every model that a grid serves or served, as far as one process needs and finds them.

The charter's were there when the grid was founded. Those of submitted models come with their listings; they are never
forgotten again, for the ledger's books go on naming a model when it is served no more. A manifest is named by its own
digest, so it does not matter who sends it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn

from gridllm.admission.cards import find_keepers, leaderboard_sources
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import SignedCharter
from gridllm.charter.fetch import ask_for_manifest
from gridllm.charter.pin import Pins
from gridllm.errors import CharterError, ModelError, SwarmError
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.manifest import Manifest, verify_manifest
from gridllm.models.sizes import block_parameters
from gridllm.swarm.directory import Directory
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 2.0  # until a manifest that nobody sent is asked for again; doubles
LONGEST_PAUSE_S: Final = 120.0
MOST_NODES: Final = 8  # of those that serve it; whoever wants may say so
MOST_UNLISTED: Final = 256  # models that no board names any more, or none ever did: see ``find``
MOST_UNLISTED_BYTES: Final = 256 * 1024 * 1024  # of their manifests; usual ones have about 100 KB
LOOK_S: Final = 300.0  # for what came to the board without its listeners' hearing


class Manifests:
    """By model root; the three mappings only grow, and may be looked at from any thread."""

    def __init__(self, signed: SignedCharter, board: NoticeBoard, pins: Pins) -> None:
        self.raws: dict[ModelRoot, bytes] = {}
        """As they are handed on."""
        self.models: dict[ModelRoot, Manifest] = {}
        self.blocks: dict[str, Sequence[int]] = {}
        """Parameters of each block: what prices follow from (``ledger.paper.Rulebook``)."""
        self._signed = signed
        self._board = board
        self._pins = pins
        self._writing = threading.Lock()
        self._again: dict[ModelRoot, tuple[float, float]] = {}  # when it may be asked for again, and the pause then

    def load(self) -> None:
        """What is kept here: the charter's, and those of listed models. Reads files: not for a busy event loop.

        Raises:
            CharterError: one of the charter's is missing.
            ModelError: one of the charter's does not parse.
        """
        for entry in self._signed.charter.models:
            if not self._load(entry.model_root):
                raise CharterError(
                    f"The manifest of model {entry.name!r} ({entry.root[:16]}…) is missing or damaged; restore the "
                    "folder 'manifests' from a backup."
                )
        for root in {*self._pins.models(self._signed), *self._listed()}:
            try:
                if not self._load(root):
                    log.warning("The manifest of the listed model %s is not here; others are asked for it.", root)
            except ModelError as error:  # a stranger's model: it must not keep a first peer from starting
                log.warning("The manifest of the listed model %s cannot be used: %s", root, error)

    async def follow(self, swarm: Swarm) -> NoReturn:
        """Get the manifest of each model that is listed, as soon as the board says so, until cancelled."""
        news = asyncio.Event()
        forget = self._board.listen(news.set)
        try:
            while True:
                news.clear()
                lacking = [root for root in self._listed() if root not in self.models]
                for root in lacking:
                    try:
                        await self.find(swarm, root)
                    except Exception:  # of one model: the first peer and its books go on for all others
                        log.exception("The manifest of the model %s could not be looked for", root)
                        self._again[root] = time.monotonic() + LONGEST_PAUSE_S, LONGEST_PAUSE_S
                due = [self._again[root][0] for root in lacking if root in self._again]
                wait_s = min(due, default=float("inf")) - time.monotonic()
                try:
                    async with asyncio.timeout(max(0.1, min(wait_s, LOOK_S))):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            forget()

    async def find(self, swarm: Swarm, root: str) -> bool:
        """Whether the manifest of that root is here now: kept from before, or sent by somebody. Asked for again at
        once, others are left alone for a while.

        Keepers and auditors ask for whatever root an entry of another's log names, be it listed or not: it may have
        been, long ago. Whoever keeps such a log chooses those roots, so no more than ``MOST_UNLISTED`` are kept.
        """
        root = ModelRoot(root)
        if root in self.models:
            return True
        at, pause_s = self._again.get(root, (0.0, FIRST_PAUSE_S))
        if time.monotonic() < at:
            return False
        try:
            if await asyncio.to_thread(self._load, root):
                return True
            if await self._may_learn(root):
                raw = await ask_for_manifest(swarm, await self._sources(swarm, root), root)
                if raw is not None:
                    await asyncio.to_thread(self._take, root, raw, keep=True)
                    return True
                log.info("Nobody sent the manifest of the model %s", root)
        except (ModelError, CharterError) as error:
            log.warning("The manifest of the model %s cannot be used: %s", root, error)
        self._again[root] = time.monotonic() + pause_s, min(2 * pause_s, LONGEST_PAUSE_S)
        return False

    async def _may_learn(self, root: ModelRoot) -> bool:
        """Whether charter or board name that model, or there is room for another one of which they do not."""
        names = Catalogue(self._signed, self._board).names
        if root in names:
            return True
        kept = {*await asyncio.to_thread(self._pins.models, self._signed), *self.models} - names.keys()
        held_bytes = sum(len(self.raws[one]) for one in kept & self.raws.keys())
        if len(kept) < MOST_UNLISTED and held_bytes < MOST_UNLISTED_BYTES:
            return True
        log.warning(
            "The model %s is not fetched: no listing names it, and %d such models (%d bytes of manifests) are kept "
            "here already. If a keeper's log names it, ask that maintainer why.",
            root,
            len(kept),
            held_bytes,
        )
        return False

    def _listed(self) -> Iterable[ModelRoot]:
        return [one.model_root for one in Catalogue(self._signed, self._board).entries]

    def _load(self, root: ModelRoot) -> bool:
        """Whether it is kept here. Raises ModelError, CharterError."""
        raw = self._pins.manifest(root)
        if raw is None:
            return False
        self._take(root, raw)
        return True

    def _take(self, root: ModelRoot, raw: bytes, *, keep: bool = False) -> None:
        manifest = verify_manifest(raw, root)
        blocks = block_parameters(manifest)
        with self._writing:
            if keep:
                self._pins.save_manifest(root, raw)
            if not any(entry.root == root for entry in self._signed.charter.models):
                self._pins.remember_model(self._signed, root)
        self.raws[root], self.blocks[root], self.models[root] = raw, blocks, manifest
        self._again.pop(root, None)

    async def _sources(self, swarm: Swarm, root: ModelRoot) -> Mapping[PeerId, tuple[str, ...]]:
        """Who may have it, the likeliest first: the leaderboard, keepers (who must), first peers, nodes."""
        found: dict[PeerId, tuple[str, ...]] = dict(await leaderboard_sources(swarm, self._signed, self._board, root))
        try:
            if self._signed.charter.economy.required:
                found |= {PeerId(one.peer): tuple(one.addresses) for one in await find_keepers(swarm, self._signed)}
            nodes = await Directory(swarm, self._signed.grid).nodes(root)
        except SwarmError as error:
            log.info("Who may have the manifest of %s was not looked up: %s", root, error)
            nodes = []
        for peer, addresses in self._pins.peers(self._signed):
            found.setdefault(peer, addresses)
        for node in nodes[:MOST_NODES]:
            found.setdefault(node.peer, tuple(node.addresses))
        return found
