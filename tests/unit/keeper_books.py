"""A keeper's books in memory, which behave as the store's batches do, and all that tests of decisions need around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account, Ledger, Tab, apply
from gridllm.ledger.messages import Outcome, Wish
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow, TabKey
from gridllm_bootstrap.keeping.decisions import Clerk, Standing
from gridllm_bootstrap.keeping.intake import read_all
from gridllm_bootstrap.keeping.reserving import reserve
from tests.charters import ENTRY
from tests.ledgers import NOW, SESSION, STARTER, Scribe, hex_of, keeper_of, paid_grid


@dataclass
class MemoryBatch(Ledger):
    """``decisions.Batch``; its log is the keeper's."""

    now_s: float = NOW
    log: list[Entry] = field(default_factory=list)
    gifts: dict[tuple[str, int], int] = field(default_factory=dict)

    def available(self, account: str) -> int:
        return self.account(account).balance - self.held(account, self.now_s)

    def enrolled(self, account: str) -> bool:
        return self.has_seen("enrolment", bytes.fromhex(account))

    def gifted(self, account: str, day: int) -> int:
        return self.gifts.get((account, day), 0)

    def has_seen(self, kind: str, subject: bytes) -> bool:
        return (kind, subject) in self.seen

    def append(self, entry: Entry) -> bool:
        said = entry.statement
        before = self.tab(said.tab).gift if isinstance(said, Escrow) else 0
        changed = apply(self, entry, STARTER)
        if isinstance(said, Escrow) and said.gift:
            day = said.issued // 86400
            self.gifts[said.payer, day] = self.gifted(said.payer, day) + self.tab(said.tab).gift - before
        if changed:
            self.log.append(entry)
        return changed


class Counter:
    """One home keeper's counter: a payer with ``credit``, an enrolled node, and time that tests move."""

    def __init__(self, credit: int = 0, **economy: Any) -> None:
        self.scribe = Scribe(paid_grid(**economy))
        self.payer, self.node = Identity.ephemeral(), Identity.ephemeral()
        self.keeper = keeper_of(self.scribe.signed, self.payer)
        self.clerk = Clerk(self.scribe.rules, self.keeper)
        self.books = MemoryBatch()
        self.standing = Standing(required=True)
        self.take(self.scribe.enrolment(self.node))
        if credit:
            self.take(self.scribe.grant(self.payer, credit))

    def take(self, entry: Entry) -> Outcome:
        """As a stranger would hand it in: read again from its bytes, then decided."""
        (read,) = read_all(self.scribe.rules, [entry.raw])
        if isinstance(read, Outcome):
            return read
        return self.clerk.take(self.books, read, self.standing, self.books.now_s)

    def voucher(self, thousands: int, **changes: Any) -> Outcome:
        return self.take(self.scribe.voucher(self.payer, self.node, decode=1000 * thousands, **changes))

    def price(self, thousands: int) -> int:
        """Of so many thousand tokens: a credit and a bit for each."""
        return self.scribe.price(0, 1000 * thousands)

    def wish(self, micro: int, **changes: Any) -> Wish:
        fields = {"session": SESSION, "payee": hex_of(self.node), "model": ENTRY.root, "start": 0, "end": ENTRY.blocks}
        return Wish(**{"micro": micro} | fields | changes)

    def reserve(self, *wishes: Wish) -> list[Escrow]:
        raws = reserve(self.clerk, self.books, hex_of(self.payer), wishes, self.books.now_s)
        said = [self.scribe.rules.read(raw, self.clerk.log).statement for raw in raws]
        return [one for one in said if isinstance(one, Escrow)]

    @property
    def tab(self) -> Tab:
        return self.books.tab(TabKey(SESSION, hex_of(self.payer), hex_of(self.node), ENTRY.root, 0, ENTRY.blocks))

    @property
    def available(self) -> int:
        return self.books.available(hex_of(self.payer))

    @property
    def earned(self) -> int:
        return self.books.account(hex_of(self.node)).earned

    def check_books(self) -> None:
        """What holds whatever happened: nobody overdrawn, nothing made or lost, and the log tells it all again."""
        again = MemoryBatch(now_s=self.books.now_s)
        for entry in self.books.log:
            read = self.scribe.rules.read(entry.raw, self.clerk.log)
            assert again.append(read), "a statement in the log that says nothing new"
        assert _written(again.accounts) == _written(self.books.accounts)
        assert _written(again.tabs) == _written(self.books.tabs)
        assert all(self.books.available(account) >= 0 for account in self.books.accounts)
        sums = [account.balance for account in self.books.accounts.values()]
        assert sum(sums) == sum(account.granted for account in self.books.accounts.values())


def _written(rows: Mapping[Any, Account | Tab]) -> dict[Any, Account | Tab]:
    """Without what was only looked at."""
    return {key: row for key, row in rows.items() if row not in (Account(), Tab())}
