"""A grid, as its user enters it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import weakref
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from gridllm.admission.cards import leaderboard_sources
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.fetch import ask_for_manifest
from gridllm.charter.gossip import gossiping
from gridllm.charter.pin import Pins
from gridllm.errors import CharterError, GridError, ModelError
from gridllm.identity.keys import Identity, load
from gridllm.ids import PeerId
from gridllm.ledger.keepers import Keepers
from gridllm.settings import load_settings
from gridllm.swarm.directory import Directory
from gridllm.swarm.helpers import Addresses, Helpers
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord
from gridllm_client.links import LinkPool
from gridllm_client.model import GridModel
from gridllm_client.reports import Reporter
from gridllm_client.routes import Routes
from gridllm_client.runtime import Runtime
from gridllm_client.terms import Terms
from gridllm_client.wallet import Wallet

if TYPE_CHECKING:
    from gridllm.models.manifest import Manifest

log = logging.getLogger(__name__)

LEAVE_TIMEOUT_S: Final = 10.0  # for closing links and leaving the network
FAREWELL_S: Final = 2.0  # for the last vouchers to arrive
ASK_TIMEOUT_S: Final = 5.0  # for a peer to send a manifest
MAX_REMEMBERED: Final = 16  # nodes kept of each visit: strangers in the directory must not push out those of before


class Grid:
    """The grid this machine has joined.

    ::

        with Grid() as grid:
            print(grid.model("demo").generate("Once upon a time"))

    It owns one background thread with an event loop and one connection to the network, both ended by ``close`` (or
    when it is garbage, or at exit). It takes part under a throw-away identity, so any number may exist.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        name: str | None = None,
        swarm: Swarm | None = None,
        reports: bool | None = None,
        account: Path | str | Identity | None = None,
    ) -> None:
        """Enter the network.

        Args:
            home: the data folder; the default is the one ``gridllm join`` uses.
            name: which of the grids joined; the default is the last.
            swarm: take part through this one (in tests: in memory), which stays the caller's to close.
            reports: tell the grid's authorities how fast its nodes served (which nodes, how many tokens, how long; no
                text); the default is the setting's, which is yes.
            account: key, or key file, of the account that pays where the grid keeps a ledger; the default is this
                machine's own (``gridllm id``). Without a key there it is served as the charter serves strangers.

        Raises:
            CharterError: no grid joined yet.
            IdentityError: the account's key cannot be used.
            SwarmError: none of the grid's known peers can be reached.
        """
        self._pins = Pins(Path(home) if home is not None else load_settings().data_dir)
        self.charter: SignedCharter = self._pins.current(name)
        payer = _account(account, self._pins.data_dir) if self.charter.charter.economy.required else None
        self._runtime = Runtime()
        self._net = _Net(reports=load_settings().reports if reports is None else reports)
        self._closer = weakref.finalize(self, _close, self._runtime, self._net)
        try:
            self._runtime.run(self._net.enter(self.charter, self._pins, swarm, payer))
        except BaseException:
            self._closer()
            raise
        self._models: dict[tuple[str, str, str | None], GridModel] = {}

    def model(self, name: str | None = None, *, dtype: str | None = None, path: Path | str | None = None) -> GridModel:
        """A model of the grid; loads its embedding and head on first use.

        Args:
            name: as the charter names it, or its root; the default is the grid's first.
            dtype: use nodes that serve it in this one; the default is the charter's.
            path: folder of its files; without it they come from the Hub, or from the grid's seeds.

        Raises:
            CharterError: the grid serves no such model.
            UsageError: no such dtype.
            ModelError: its files cannot be found, or are not the grid's.
        """
        entry = self.charter.charter.model(name)
        dtype = dtype or entry.dtype
        key = entry.root, dtype, None if path is None else str(path)
        if key not in self._models:
            self._models[key] = self._load(entry, dtype, Path(path) if path is not None else None)
        return self._models[key]

    def status(self) -> dict[str, list[NodeRecord]]:
        """Who serves what now: the admitted nodes of each model, by the model's name.

        Raises:
            SwarmError: the directory did not answer.
        """
        return self._runtime.run(self._net.status(self.charter))

    def balance(self) -> int | None:
        """Micro-credits of the account that pays, by its keeper's books; vouchers of the last minute may lack in them.

        None: the grid keeps no ledger, there is no account, or its keeper does not answer.
        """
        return self._runtime.run(self._net.balance())

    def close(self) -> None:
        """Leave the network and end the thread; idempotent."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, entry: ModelEntry, dtype_name: str, path: Path | None) -> GridModel:
        from gridllm.models.ends import Ends
        from gridllm.models.manifest import verify_manifest
        from gridllm.models.sizes import block_parameters
        from gridllm.wire.tensor import dtype_named

        dtype = dtype_named(dtype_name)
        raw = self._runtime.run(self._net.manifest(self.charter, entry, self._pins))
        manifest = verify_manifest(raw, entry.model_root)
        folder = _folder(entry, path) or self._runtime.run(self._net.ends_folder(self.charter, entry, manifest))
        ends = Ends.load(folder, manifest, dtype)
        terms = Terms(model=entry.model_root, blocks=entry.blocks, hidden_size=entry.hidden_size, dtype=dtype)
        pool = self._net.pool
        routes = Routes(self._net.directory, pool, entry.model_root, dtype_name, gate=self._net.gate)
        wallet = self._net.wallet
        if wallet is not None:
            wallet.learn(entry.model_root, block_parameters(manifest))
        return GridModel(self._runtime, pool, routes, terms, ends, entry.name, self._net.reporter, wallet)


class _Net:
    """What a Grid holds on its loop. Knows nothing of the Grid, so that the Grid can become garbage."""

    def __init__(self, *, reports: bool = False) -> None:
        self.swarm: Swarm | None = None
        self.reporter: Reporter | None = None
        self.wallet: Wallet | None = None
        self._reports = reports
        self._remember: Callable[[], None] = lambda: None
        self._leaving = contextlib.AsyncExitStack()

    @property
    def pool(self) -> LinkPool:
        """Links to nodes."""
        return self._pool

    @property
    def board(self) -> NoticeBoard:
        """What the grid's maintainers said since founding; belongs to the grid's loop."""
        return self._board

    @property
    def gate(self) -> Gatekeeper:
        """Who is admitted."""
        return self._gate

    @property
    def directory(self) -> Directory:
        """Who serves what."""
        return self._directory

    async def enter(self, signed: SignedCharter, pins: Pins, swarm: Swarm | None, account: Identity | None) -> None:
        """Join the network as a client; ``account`` pays."""
        identity: Identity | None = None
        if swarm is None:
            from gridllm.swarm.libp2p import open_swarm

            first = pins.initial_peers(signed)
            if not first:
                raise CharterError(
                    f"No peer of the grid {signed.charter.name!r} is known; run: gridllm join <multiaddr>"
                )
            identity = Identity.ephemeral()
            swarm = await open_swarm(identity, initial_peers=first, client_only=True, namespace=signed.grid)
            self._leaving.push_async_callback(swarm.close)
        self.swarm = swarm
        self._pool = LinkPool(swarm)
        self._board = NoticeBoard(signed, pins.notices_path(signed))
        self._board.listen(self._pool.notices_changed)
        self._gate = Gatekeeper(signed, self._board)
        self._directory = Directory(swarm, signed.grid, self._gate.admit)
        if self._reports and identity is not None:  # a report is signed by the key that takes part
            self.reporter = Reporter(swarm, identity, signed, self._gate, self._pool.rtts_ms)
        if account is not None:
            path = pins.pass_path(signed, account.public_key.hex())
            tier = Catalogue(signed, self._board).contribution
            self.wallet = Wallet(signed, account, swarm.peer, Keepers(swarm, signed), path, tier=tier)

        self._remember = lambda: _remember(pins, signed, self._directory.seen, self._pool.rtts_ms())

        def peers() -> list[tuple[PeerId, tuple[str, ...]]]:
            return [*pins.peers(signed), *self._directory.seen.items()]

        # Others cannot call a client, and several may share a swarm: it asks, and is not asked.
        await self._leaving.enter_async_context(gossiping(swarm, self._board, peers, serve=False))

    async def leave(self) -> None:
        """Close links, and the swarm if it is ours."""
        if self.swarm is None:
            return
        self.swarm = None
        self._remember()  # first: what follows may take longer than there is time
        if self.reporter is not None:
            await self.reporter.close()
        if self.wallet is not None:
            await self._pool.delivered(FAREWELL_S)  # what nodes are owed is on its way
        await self._pool.close()
        await self._leaving.aclose()

    async def status(self, signed: SignedCharter) -> dict[str, list[NodeRecord]]:
        """Nodes by model name."""
        return {entry.name: await self._directory.nodes(entry.model_root) for entry in signed.charter.models}

    async def balance(self) -> int | None:
        """Micro-credits, if the account's keeper says."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await self.wallet.balance() if self.wallet is not None else None
        except (GridError, TimeoutError) as error:
            log.info("The account's balance is not known: %s", error)
            return None

    async def manifest(self, signed: SignedCharter, entry: ModelEntry, pins: Pins) -> bytes:
        """The model's manifest: as kept from before, or from any peer that has it."""
        raw = pins.manifest(entry.model_root)
        if raw is not None:
            return raw
        askable = await self._askable(signed, entry, pins)
        raw = await ask_for_manifest(self._pool.swarm, askable, entry.model_root, timeout_s=ASK_TIMEOUT_S)
        if raw is None:
            raise ModelError(f"No peer could send the manifest of {entry.name!r}; try again when a node is up.")
        pins.save_manifest(entry.model_root, raw)
        return raw

    async def ends_folder(self, signed: SignedCharter, entry: ModelEntry, manifest: Manifest) -> Path:
        """Embedding, head and tokenizer as seeds and nodes hand them out, kept in the cache.

        Raises:
            ModelError: nobody does.
        """
        from gridllm.models.fetching import obtain_weights

        helpers = Helpers(self._pool.swarm, signed.grid, self._gate.admit_helper)

        async def find() -> Addresses:
            nodes = await self._directory.nodes(entry.model_root)
            held = {one.peer: tuple(one.addresses) for one in nodes if one.state != "joining"}
            beside = await leaderboard_sources(self._pool.swarm, signed, self._board, entry.root)
            return {**beside, **held, **await helpers.seeds(entry.model_root)}

        cache_dir = load_settings().cache_dir
        return await obtain_weights(
            self._pool.swarm, entry.model_root, manifest, cache_dir, find, name=entry.name, ends=True
        )

    async def _askable(self, signed: SignedCharter, entry: ModelEntry, pins: Pins) -> dict[PeerId, tuple[str, ...]]:
        found = {
            **await leaderboard_sources(self._pool.swarm, signed, self._board, entry.root),
            **dict(pins.peers(signed)),
        }
        with contextlib.suppress(GridError):
            records = await self._directory.nodes(entry.model_root)
            found |= {record.peer: tuple(record.addresses) for record in records}
        return found


def _remember(
    pins: Pins, signed: SignedCharter, seen: Mapping[PeerId, tuple[str, ...]], used: Collection[PeerId]
) -> None:
    """Keep where some nodes can be dialled, those in use before others, to enter by when the first peers are gone."""
    chosen = sorted(seen, key=lambda peer: (peer not in used, random.random()))[:MAX_REMEMBERED]  # noqa: S311
    if not chosen:
        return
    try:  # on this thread: at the interpreter's exit there are no others to be had
        pins.remember_peers(signed, {peer: seen[peer] for peer in reversed(chosen)})
    except CharterError as error:
        log.info("The nodes met are not remembered: %s", error)


def _folder(entry: ModelEntry, path: Path | None) -> Path | None:
    """Where the model's embedding and head are; downloads those shards when it is on the Hub. None: to be fetched."""
    from gridllm.models.files import find_model

    if path is not None:
        return find_model(path)
    if entry.source == "local":
        return None
    return find_model(entry.source, entry.revision, ends=True)


def _account(given: Path | str | Identity | None, data_dir: Path) -> Identity | None:
    """The account that pays; None: nothing was named, and this machine has no key."""
    if isinstance(given, Identity):
        return given
    if given is not None:
        return load(Path(given))
    path = load_settings().identity or data_dir / "identity.key"
    return load(path) if path.exists() else None


def _close(runtime: Runtime, net: _Net) -> None:
    goodbye: Coroutine[Any, Any, None] = net.leave()
    runtime.close(goodbye, LEAVE_TIMEOUT_S)
