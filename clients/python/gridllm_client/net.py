"""What a Grid holds on its loop: its place in the network, and what it learns there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Collection, Mapping
from typing import Final

from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.gossip import gossiping
from gridllm.charter.news import hear_news
from gridllm.charter.pin import Pins
from gridllm.errors import CharterError, GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.keepers import Keepers
from gridllm.swarm.directory import Directory
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord
from gridllm_client.links import LinkPool
from gridllm_client.reports import Reporter
from gridllm_client.wallet import Wallet

log = logging.getLogger(__name__)

BALANCE_S: Final = 5.0  # for the account's keeper to say its balance
FAREWELL_S: Final = 2.0  # for the last vouchers to arrive
MAX_REMEMBERED: Final = 16  # nodes kept of each visit: strangers in the directory must not push out those of before


class Net:
    """What a Grid holds on its loop. Knows nothing of the Grid, so that the Grid can become garbage."""

    def __init__(self, signed: SignedCharter, pins: Pins, *, reports: bool = False) -> None:
        self.signed = signed
        self.pins = pins
        self.swarm: Swarm | None = None
        self.reporter: Reporter | None = None
        self.wallet: Wallet | None = None
        self._reports = reports
        self._heard = False  # what the maintainers said, from somebody, since entering
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
    def catalogue(self) -> Catalogue:
        """The models that the grid serves, as far as was heard."""
        return self._catalogue

    @property
    def gate(self) -> Gatekeeper:
        """Who is admitted."""
        return self._gate

    @property
    def directory(self) -> Directory:
        """Who serves what."""
        return self._directory

    async def enter(self, swarm: Swarm | None, account: Identity | None) -> None:
        """Join the network as a client; ``account`` pays."""
        signed, pins = self.signed, self.pins
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
        self._catalogue = Catalogue(signed, self._board)
        self._gate = Gatekeeper(signed, self._board)
        self._directory = Directory(swarm, signed.grid, self._gate.admit)
        if self._reports and identity is not None:  # a report is signed by the key that takes part
            self.reporter = Reporter(swarm, identity, signed, self._gate, self._pool.rtts_ms)
        if account is not None:
            path = pins.pass_path(signed, account.public_key.hex())
            tier = self._catalogue.contribution
            self.wallet = Wallet(signed, account, swarm.peer, Keepers(swarm, signed), path, tier=tier)
        # Others cannot call a client, and several may share a swarm: it asks, and is not asked.
        await self._leaving.enter_async_context(gossiping(swarm, self._board, self._peers, serve=False))

    async def leave(self) -> None:
        """Close links, and the swarm if it is ours."""
        if self.swarm is None:
            return
        self.swarm = None
        # First: what follows may take longer than there is time.
        remember(self.pins, self.signed, self._directory.seen, self._pool.rtts_ms())
        if self.reporter is not None:
            await self.reporter.close()
        if self.wallet is not None:
            await self._pool.delivered(FAREWELL_S)  # what nodes are owed is on its way
        await self._pool.close()
        await self._leaving.aclose()

    async def entry(self, name: str | None) -> ModelEntry:
        """The model of that name; where none is known, others are asked whether the maintainers listed one since.

        Raises:
            CharterError: the grid serves no such model, or has no champion.
        """
        try:
            return self._catalogue.model(name)
        except CharterError:
            if not await self.hear():
                raise
        return self._catalogue.model(name)

    async def hear(self) -> bool:
        """Ask others at once for what the maintainers said. False: nobody answered."""
        first, met = self.pins.peers(self.signed), list(self._directory.seen.items())
        heard = await hear_news(self._pool.swarm, self._board, [*first[:2], *met, *first[2:]])
        self._heard = self._heard or heard
        return heard

    async def status(self) -> dict[str, list[NodeRecord]]:
        """Nodes by model name."""
        if not self._heard:
            await self.hear()
        return {entry.name: await self._directory.nodes(entry.model_root) for entry in self._catalogue.entries}

    async def balance(self) -> int | None:
        """Micro-credits, if the account's keeper says."""
        try:
            async with asyncio.timeout(BALANCE_S):
                return await self.wallet.balance() if self.wallet is not None else None
        except (GridError, TimeoutError) as error:
            log.info("The account's balance is not known: %s", error)
            return None

    def _peers(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        return [*self.pins.peers(self.signed), *self._directory.seen.items()]


def remember(
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
