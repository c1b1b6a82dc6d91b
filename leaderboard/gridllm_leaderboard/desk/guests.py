"""Which weights are handed out, and to whom.

Everyone may have listed models, and the latest graded ones that their authors let the grid serve: so anyone can run a
grading again (``gridllm leaderboard verify``). Those of the round that is open go to graders.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from gridllm.errors import ModelError
from gridllm.ids import ModelRoot
from gridllm.models.seeding import Seeding, Shelf

if TYPE_CHECKING:
    from gridllm.ids import PeerId
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.view import View
    from gridllm_leaderboard.vault.vault import Vault

log = logging.getLogger(__name__)

MOST_GUESTS: Final = 1024
MOST_SHOWN: Final = 256  # graded models, the latest: each has its headers in memory
MANIFESTS_KEPT: Final = 4  # in memory; each may have some MB


class Guests:
    """Peers that graders act through."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._until: OrderedDict[PeerId, int] = OrderedDict()

    def admit(self, peer: PeerId, until: int) -> None:
        """It showed a grader's delegation, which holds until then (Unix time)."""
        self._until[peer] = until
        self._until.move_to_end(peer)
        while len(self._until) > MOST_GUESTS:
            self._until.popitem(last=False)

    def __contains__(self, peer: PeerId) -> bool:
        return self._clock() < self._until.get(peer, 0)


class Handout:
    """What the leaderboard hands out of its vault: weights by ``seeding``, manifests by ``manifests``."""

    def __init__(self, desk: Desk, guests: Guests) -> None:
        self._desk = desk
        self._guests = guests
        self._open: set[str] = set()  # to everyone
        self._graded: set[str] = set()
        self._shelf = Shelf()
        self.seeding = Seeding(self._shelf, may=self.may, first=guests.__contains__)
        self.manifests: Mapping[ModelRoot, bytes] = _Manifests(desk.vault, self._shelf)

    async def refresh(self) -> None:
        """Look anew at what is listed and what is graded. Raises LeaderboardError: the store cannot be read."""
        desk = self._desk
        self._open = {one.model.root for one in desk.board.listings} | await desk.books.read(_roots_shown)
        self._graded = await desk.books.read(_roots_in_round)
        wanted = self._open | self._graded
        for root in self._shelf.roots:
            if root not in wanted:
                self._shelf.take(root)
        for lacking in sorted(wanted.difference(self._shelf.roots)):
            await asyncio.to_thread(self._put, lacking)

    def _put(self, root: str) -> None:
        try:
            folder, manifest = self._desk.vault.folder(root), self._desk.vault.manifest(root)
            if folder is not None and manifest is not None:
                self._shelf.put(ModelRoot(root), manifest, folder)
        except (ModelError, OSError) as error:
            log.warning("The model %s cannot be handed out: %s", root[:16], error)

    def may(self, peer: PeerId, root: str) -> bool:
        """Whether that peer may have a model's weights, and its manifest.

        Who knows a manifest's digests need not bring what they stand for (the vault has it already): with one tensor
        changed, a stranger would submit weights that nobody ever gave them.
        """
        return root in self._open or (root in self._graded and peer in self._guests)


class _Manifests(Mapping[ModelRoot, bytes]):
    """Of the models on the shelf; a few are kept in memory."""

    def __init__(self, vault: Vault, shelf: Shelf) -> None:
        self._vault = vault
        self._shelf = shelf
        self._kept: OrderedDict[ModelRoot, bytes] = OrderedDict()

    def __getitem__(self, root: ModelRoot) -> bytes:
        if root not in self._shelf.roots:
            raise KeyError(root)
        raw = self._kept.pop(root, None) or self._vault.manifest_bytes(root)
        if raw is None:
            raise KeyError(root)
        self._kept[root] = raw
        while len(self._kept) > MANIFESTS_KEPT:
            self._kept.popitem(last=False)
        return raw

    def __iter__(self) -> Iterator[ModelRoot]:
        return iter(self._shelf.roots)

    def __len__(self) -> int:
        return len(self._shelf.roots)


def _roots_shown(view: View) -> set[str]:
    latest = heapq.nlargest(MOST_SHOWN, view.marks(), key=lambda mark: mark.round)
    found = view.several([mark.submission for mark in latest]).values()
    return {one.submission.root for one in found if one.submission.serve and one.state == "graded"}


def _roots_in_round(view: View) -> set[str]:
    round_ = view.open_round()
    return set() if round_ is None else {one.submission.root for one in view.several(round_.graded).values()}
