"""A keeper that keeps what it is told in memory: honest unless a test makes it lie. For whoever asks keepers."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gridllm.admission.cards import publish_card
from gridllm.charter.document import SignedCharter
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature
from gridllm.ids import PeerId
from gridllm.ledger import messages
from gridllm.ledger.fold import Account, Ledger, apply
from gridllm.ledger.log.heads import Head, cosign_head, sign_head
from gridllm.ledger.log.tiles import MemoryTiles, Tiles
from gridllm.ledger.messages import AccountView, Documents, Heads, History, HistoryRow, Outcome, Outcomes, pack, unpack
from gridllm.ledger.paper import Entry, Rulebook
from gridllm.ledger.statements import Transfer, peer_of_account
from gridllm.merkle import leaf_digest
from gridllm.swarm.memory import MemorySwarm

CALLS = ("submit", "account", "accounts", "history", "heads", "entries", "proof")


class Copy:
    """One log, as a keeper holds it."""

    def __init__(self) -> None:
        self.raws: list[bytes] = []
        self.tiles = Tiles(MemoryTiles())
        self.head = b""

    def extend(self, raws: Iterable[bytes]) -> None:
        raws = list(raws)
        self.raws += raws
        self.tiles.append([leaf_digest(raw) for raw in raws])


class FakeKeeper:
    """Answers all calls of the ledger but escrows and passes."""

    def __init__(self, swarm: MemorySwarm, signed: SignedCharter, identity: Identity, rules: Rulebook) -> None:
        self.swarm, self.signed, self.identity, self.rules = swarm, signed, identity, rules
        self.key = identity.public_key.hex()
        self.copies = {keeper: Copy() for keeper in signed.charter.keepers}
        self.books = Ledger()
        self.history_rows: list[HistoryRow] = []
        self.evidence: list[bytes] = []
        self.heads_beside: list[bytes] = []
        """Shown besides the newest."""
        self.lost_answers = 0
        """How many statements it takes in without an answer that arrives."""

    @property
    def own(self) -> Copy:
        return self.copies[self.key]

    async def start(self) -> None:
        for call in CALLS:
            await self.swarm.serve_calls(f"gridllm.ledger.{call}", getattr(self, f"_{call}"))
        await publish_card(self.swarm, self.signed.grid, self.identity, office="keepers")

    def take(self, entries: Iterable[Entry]) -> None:
        """Append to its own log and sign a head, whatever the entries are."""
        entries = list(entries)
        self._fold(entries, self.key)
        self.own.extend(entry.raw for entry in entries)
        self.sign()

    def sign(self) -> None:
        tiles = self.own.tiles
        head = Head(grid=self.signed.grid, keeper=self.key, size=tiles.size, root=tiles.root().hex(), issued=1)
        self.own.head = sign_head(head, self.identity)

    def forget(self, count: int) -> None:
        """Lose the last entries of its own log, and sign what is left."""
        raws, self.copies[self.key] = self.own.raws[:-count], Copy()
        self.own.extend(raws)
        self.sign()

    def mirror(self, other: FakeKeeper) -> None:
        """Copy another's log, and cosign its head."""
        copy = self.copies[other.key]
        fresh = other.own.raws[len(copy.raws) :]
        self._fold([self.rules.read(raw, other.key) for raw in fresh], other.key)
        copy.extend(fresh)
        copy.head = cosign_head(other.own.head, self.identity)

    def _fold(self, entries: Iterable[Entry], log: str) -> None:
        first = len(self.copies[log].raws)
        for index, entry in enumerate(entries, first):
            apply(self.books, entry, self.signed.charter.economy.starter)
            cursor = len(self.history_rows)
            self.history_rows.append(HistoryRow(cursor, log, index, int(time.time()), entry.raw))

    def view(self, account: str) -> AccountView:
        held = self.books.accounts.get(account) or Account()
        sums = (held.granted, held.earned, held.spent, held.received, held.sent)
        return AccountView(account, *sums, escrowed=self.books.held(account, time.time()))

    async def _submit(self, peer: PeerId, raw: bytes) -> bytes:
        outcomes = []
        for statement in unpack(raw, messages.Submit).statements:
            outcomes.append(self._decide(statement))
        if self.lost_answers:
            self.lost_answers -= 1
            raise RuntimeError("the answer is lost")
        return pack(Outcomes(outcomes))

    def _decide(self, raw: bytes) -> Outcome:
        try:
            entry = self.rules.read(raw)
        except LedgerError as error:
            return Outcome("bad_payment", str(error))
        said = entry.statement
        if not isinstance(said, Transfer):
            return Outcome("bad_payment", "only transfers are taken here")
        if ("transfer", entry.id) in self.books.seen:
            return Outcome("known")
        if self.rules.home(said.payer) != self.key:
            return Outcome("not_home", "another keeper's account")
        if self.books.account(said.payer).balance < said.micro:
            return Outcome("insufficient", f"The account has {self.books.account(said.payer).balance}.")
        self.take([entry._replace(raw=add_signature(raw, self.identity))])
        return Outcome("accepted")

    async def _account(self, peer: PeerId, raw: bytes) -> bytes:
        return pack(self.view(unpack(raw, messages.AskAccount).account))

    async def _accounts(self, peer: PeerId, raw: bytes) -> bytes:
        asked = unpack(raw, messages.AskAccounts)
        keys = sorted(key for key in self.books.accounts if key > asked.after)[: asked.limit]
        return pack(messages.AccountViews([self.view(key) for key in keys]))

    async def _history(self, peer: PeerId, raw: bytes) -> bytes:
        asked = unpack(raw, messages.AskHistory)
        rows = [
            row
            for row in reversed(self.history_rows)
            if row.at >= asked.since
            and (asked.before is None or row.cursor < asked.before)
            and (said := str(self.rules.read(row.statement, row.log).statement))
            and (asked.account in said or peer_of_account(asked.account) in said)
        ]
        return pack(History(rows[: asked.limit]))

    async def _heads(self, peer: PeerId, raw: bytes) -> bytes:
        return pack(
            Heads([*(copy.head for copy in self.copies.values() if copy.head), *self.heads_beside], self.evidence)
        )

    async def _entries(self, peer: PeerId, raw: bytes) -> bytes:
        asked = unpack(raw, messages.AskEntries)
        return pack(Documents(self.copies[asked.log].raws[asked.first :][: asked.limit]))

    async def _proof(self, peer: PeerId, raw: bytes) -> bytes:
        asked = unpack(raw, messages.AskProof)
        tiles = self.copies[asked.log].tiles
        if asked.index is not None:
            return pack(messages.Proof(tiles.inclusion(asked.index, asked.size)))
        return pack(messages.Proof(tiles.consistency(asked.first or 0, asked.size)))
