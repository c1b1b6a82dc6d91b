"""The in-memory grid with an economy, all of it real: nodes with tills that hand in, the payer's home keeper over
SQLite, a wallet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from gridllm.admission.cards import publish_card
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.engine.runner import Engine
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.fold import Account
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import TabKey, account_of
from gridllm.node.counter.handing import HandIn
from gridllm.node.counter.purse import Purse
from gridllm.node.counter.till import Till
from gridllm.node.service.service import NodeService
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.messages import Owing, RowSlice
from gridllm_bootstrap.keeping.calls import Calls
from gridllm_bootstrap.keeping.desk import Keeper
from gridllm_client.paying import Payer
from gridllm_client.session import Session
from gridllm_client.terms import ChainEvent, OnEvent, Patience, Terms
from gridllm_client.wallet import Wallet
from tests.charters import ENTRY
from tests.ledgers import BLOCKS, Scribe, hex_of, keeper_of, paid_grid, rulebook
from tests.unit.keeper_desk import opened
from tests.unit.memory_grid import ROOT, MemoryGrid, MemoryNode, grid_of


class HomeKeeper:
    """The account's, on the network. ``silent`` while a test wishes it."""

    def __init__(self, swarm: MemorySwarm, signed: SignedCharter, identity: Identity) -> None:
        self.swarm, self.signed, self.identity = swarm, signed, identity
        self.silent = False
        self.asked: list[str] = []

    async def start(self, path: Path, stack: AsyncExitStack) -> None:
        self.store = stack.enter_context(opened(path))
        keeper = Keeper(self.store, rulebook(self.signed), self.identity, NoticeBoard(self.signed))
        self.keeper = await stack.enter_async_context(keeper)
        await Calls(self.keeper, self.swarm).serve()
        self.swarm._calls = {name: self._noting(name, handler) for name, handler in self.swarm._calls.items()}
        await publish_card(self.swarm, self.signed.grid, self.identity, office="keepers")

    def _noting(
        self, name: str, handler: Callable[[PeerId, bytes], Awaitable[bytes]]
    ) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        async def note(peer: PeerId, payload: bytes) -> bytes:
            if self.silent:
                raise RuntimeError("a test says so")
            self.asked.append(name.rpartition(".")[2])
            return await handler(peer, payload)

        return note

    async def take(self, raw: bytes) -> None:
        """As handed in."""
        (outcome,) = await self.keeper.submit([raw])
        assert outcome.code == "accepted", outcome


class PaidGrid(MemoryGrid):
    """Every node is paid; made by ``paid``."""

    economy: dict[str, Any]
    credit: int
    home: Path

    def __init__(self, network: MemoryNetwork, folder: Path, blocks: int, stack: AsyncExitStack) -> None:
        super().__init__(network, folder, blocks, stack)
        self.signed = paid_grid(**self.economy)
        self.account = Identity.ephemeral()
        keeper = keeper_of(self.signed, self.account)
        self.keeper = HomeKeeper(network.join(Identity.ephemeral()), self.signed, keeper)
        self.purses: dict[PeerId, tuple[Identity, Purse]] = {}
        self.events: list[ChainEvent] = []
        self.wallet = self.new_wallet()

    def new_wallet(self, identity: Identity | None = None) -> Wallet:
        """As another process of the same participant would have it; ``identity``: of another account."""
        account = identity or self.account
        keepers = Keepers(self.swarm, self.signed)
        wallet = Wallet(self.signed, account, self.swarm.peer, keepers, self.home / "passes" / f"{account.peer}.json")
        wallet.learn(ROOT, BLOCKS)
        return wallet

    async def begin(self) -> None:
        """The keeper opens, and grants the account its credit."""
        await self.keeper.start(self.home / "ledger.db", self._stack)
        if self.credit:
            await self.keeper.take(Scribe(self.signed).grant(self.account, self.credit).raw)

    async def add(self, start: int, end: int, **options: Any) -> MemoryNode:
        """A node with a purse."""
        node = await super().add(start, end, **options)
        await self._stack.enter_async_context(self.purses[node.swarm.peer][1])
        return node

    def service(self, swarm: MemorySwarm, engine: Engine) -> NodeService:
        """What a node of a grid with an economy runs."""
        purse = Purse(self.home / f"{swarm.peer}.db")
        self.purses[swarm.peer] = swarm._identity, purse
        keepers = Keepers(swarm, self.signed)
        till = Till(self.signed, ENTRY, rulebook(self.signed), account_of(swarm.peer), keepers, purse)
        return NodeService(swarm, engine, ROOT, till=till)

    def session(
        self,
        *,
        rows: int = 1,
        on_event: OnEvent | None = None,
        patience: Patience | None = None,
        tokens: int = 0,
        wallet: Wallet | None = None,
    ) -> Session:
        """A session that pays."""
        terms = Terms(
            model=ROOT,
            blocks=self.blocks,
            hidden_size=self.ends.hidden_size,
            dtype=torch.float32,
            rows=rows,
            tokens=tokens,
        )
        told = on_event or self.events.append
        payer = Payer(wallet or self.wallet, terms, told)
        return Session(self.pool, self.routes(), terms, on_event=told, patience=patience, payer=payer)

    async def hand_in(self) -> int:
        """All nodes, those that were killed too, bring what they have; the account's spending by the books."""
        for identity, purse in self.purses.values():
            # Over the client's connection, since a killed node has none: a keeper does not mind who brings a voucher.
            handing = HandIn(purse, Keepers(self.swarm, self.signed), self.signed.grid, identity)
            for slip in purse.slips():
                slip.again_at = 0.0
                if slip.closed_at is not None:
                    slip.release_at = 0.0
            await handing.round()
        return self.books.spent

    @property
    def books(self) -> Account:
        """The account's sums, as its keeper has them."""
        return self.keeper.store.account(hex_of(self.account))

    def paid_on(self, key: TabKey) -> int:
        """Micro-credits that changed hands on one bill."""
        tab = self.keeper.store.tab(key)
        return tab.paid if tab is not None else 0

    def price(self, start: int, end: int, prefill: int, decode: int) -> int:
        """Micro-credits for tokens through a span, by the charter."""
        return Scribe(self.signed).rules.price(ENTRY.root, start, end, Count(prefill, decode))


@asynccontextmanager
async def paid(
    folder: Path, blocks: int, cuts: Sequence[int], home: Path, *, credit: int = 10**12, **economy: Any
) -> AsyncIterator[PaidGrid]:
    """A grid whose nodes serve the blocks between ``cuts`` for pay; ``economy``: fields of the charter's."""

    class Grid(PaidGrid):
        pass

    Grid.credit, Grid.economy, Grid.home = credit, economy, home
    async with grid_of(Grid, folder, blocks, cuts) as grid:
        await grid.begin()
        yield grid


async def feed(session: Session, slices: list[RowSlice]) -> None:
    hidden = torch.randn(sum(s.tokens for s in slices), session.terms.hidden_size)
    out = await session.forward(slices, hidden)
    assert out.shape[0] == sum(s.keep for s in slices)


async def generate(session: Session, prompt: int, tokens: int) -> None:
    """As text is generated: a prompt, then token by token."""
    await session.open()
    await feed(session, [RowSlice(0, 0, 0, prompt, 1)])
    for position in range(prompt, prompt + tokens):
        await feed(session, [RowSlice(0, 0, position, 1, 1)])


async def settled() -> None:
    """What was sent is taken in."""
    for _ in range(20):
        await asyncio.sleep(0.005)


def watch_pauses(session: Session) -> list[Owing]:
    """Every time a node waits for a voucher that was not signed, or for an escrow that was not shown, before the step.

    What was may come after the step still: it takes another link than a step that other nodes pass on.
    """
    seen: list[Owing] = []
    usual = session.on_owing

    def on_owing(peer: PeerId, owing: Owing) -> None:
        tabs = [hop.tab for hop in session._chain.hops if hop.peer == peer]
        if any(tab is None or owing.micro > tab.signed or 0 < tab.covered < tab.owed for tab in tabs):
            seen.append(owing)
        usual(peer, owing)

    session.on_owing = on_owing  # type: ignore[method-assign]
    return seen
