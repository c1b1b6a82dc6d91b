"""The in-memory grid with an economy: nodes with tills, the payer's home keeper with its books in memory, a wallet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from gridllm.admission.cards import publish_card
from gridllm.charter.document import SignedCharter
from gridllm.engine.runner import Engine
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger import messages
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import AccountView, Documents, Heads, Outcome, pack, unpack
from gridllm.ledger.paper import verify_delegation
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import account_of
from gridllm.node.purse import Purse
from gridllm.node.service import NodeService
from gridllm.node.till import Till
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_bootstrap.keeping.decisions import Clerk, Standing
from gridllm_bootstrap.keeping.reserving import access_pass, reserve
from gridllm_client.paying import Payer
from gridllm_client.session import Session
from gridllm_client.terms import ChainEvent, OnEvent, Patience, Terms
from gridllm_client.wallet import Wallet
from tests.charters import ENTRY
from tests.ledgers import BLOCKS, Scribe, hex_of, keeper_of, paid_grid, rulebook
from tests.unit.keeper_books import MemoryBatch
from tests.unit.memory_grid import ROOT, MemoryGrid, MemoryNode, grid_of


class HomeKeeper:
    """Answers for the payer's account, by the keepers' own decisions."""

    def __init__(self, swarm: MemorySwarm, signed: SignedCharter, identity: Identity) -> None:
        self.swarm, self.signed, self.identity = swarm, signed, identity
        self.clerk = Clerk(rulebook(signed), identity)
        self.books = MemoryBatch()
        self.asked: list[str] = []

    async def start(self) -> None:
        for name in ("escrow", "pass", "account", "heads"):
            await self.swarm.serve_calls(f"gridllm.ledger.{name}", getattr(self, f"_{name}"))
        await publish_card(self.swarm, self.signed.grid, self.identity, office="keepers")

    def take(self, raw: bytes) -> Outcome:
        """As handed in."""
        self.books.now_s = time.time()
        return self.clerk.take(self.books, self.clerk.rulebook.read(raw), Standing(), time.time())

    def _account_of(self, peer: PeerId, delegation: bytes, call: str) -> str:
        self.asked.append(call)
        self.books.now_s = time.time()
        return verify_delegation(delegation, self.signed.grid, peer, time.time()).account

    async def _escrow(self, peer: PeerId, raw: bytes) -> bytes:
        asked = unpack(raw, messages.AskEscrow)
        account = self._account_of(peer, asked.delegation, "escrow")
        return pack(Documents(reserve(self.clerk, self.books, account, asked.wishes, time.time())))

    async def _pass(self, peer: PeerId, raw: bytes) -> bytes:
        account = self._account_of(peer, unpack(raw, messages.AskPass).delegation, "pass")
        sums, held = self.books.account(account), self.books.held(account, time.time())
        return pack(Documents([access_pass(self.clerk, self.identity, account, sums, held, time.time())]))

    async def _account(self, peer: PeerId, raw: bytes) -> bytes:
        account = unpack(raw, messages.AskAccount).account
        sums = self.books.account(account)
        return pack(AccountView(account, sums.granted, sums.earned, sums.spent, sums.received, sums.sent))

    async def _heads(self, peer: PeerId, raw: bytes) -> bytes:
        return pack(Heads([]))


class PaidGrid(MemoryGrid):
    """Every node is paid; ``account`` has ``credit`` micro-credits unless the test says otherwise."""

    credit = 10**12
    economy: dict[str, Any] = {}  # noqa: RUF012 - set for each grid by ``paid``
    home: Path

    def __init__(self, network: MemoryNetwork, folder: Path, blocks: int, stack: Any) -> None:
        super().__init__(network, folder, blocks, stack)
        self.signed = paid_grid(**self.economy)
        self.account = Identity.ephemeral()
        self.keeper = HomeKeeper(network.join(Identity.ephemeral()), self.signed, keeper_of(self.signed, self.account))
        self.purses: dict[PeerId, Purse] = {}
        self.events: list[ChainEvent] = []
        self.wallet = self.new_wallet()

    def new_wallet(self, swarm: MemorySwarm | None = None) -> Wallet:
        """As another process of the same participant would have it."""
        swarm = swarm or self.swarm
        keepers = Keepers(swarm, self.signed)
        wallet = Wallet(self.signed, self.account, swarm.peer, keepers, self.home / "pass.json")
        wallet.learn(ROOT, BLOCKS)
        return wallet

    async def begin(self) -> None:
        """The keeper opens, and grants the account its credit."""
        await self.keeper.start()
        if self.credit:
            assert self.keeper.take(Scribe(self.signed).grant(self.account, self.credit).raw).code == "accepted"

    async def add(self, start: int, end: int, *, cache_tokens: int = 8192, **announced: Any) -> MemoryNode:
        """A node with a purse."""
        node = await super().add(start, end, cache_tokens=cache_tokens, **announced)
        await self._stack.enter_async_context(self.purses[node.swarm.peer])
        return node

    def service(self, swarm: MemorySwarm, engine: Engine) -> NodeService:
        """What a node of a grid with an economy runs."""
        purse = self.purses[swarm.peer] = Purse(self.home / f"{swarm.peer}.db")
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

    def hand_in(self) -> int:
        """All vouchers to the keeper; what the account has spent by its books, micro-credits."""
        for purse in self.purses.values():
            for slip in purse.slips():
                if slip.voucher:
                    assert self.keeper.take(slip.voucher).code in ("accepted", "known")
        return self.keeper.books.account(hex_of(self.account)).spent

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
