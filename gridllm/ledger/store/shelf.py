"""The books (``fold.Books``) as one transaction sees them: rows are read once, changed in memory, written once.

Whoever names what it will need (``load``) has it read by a few queries; what was not named is read when asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, insert

from gridllm.database.upsert import upsert
from gridllm.errors import LedgerError
from gridllm.ledger.fold import Account, Tab
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import OnTab, TabKey
from gridllm.ledger.store import rows
from gridllm.ledger.store.rows import Counters, account_values, read_counters, tab_values
from gridllm.ledger.store.schema import accounts, gifts, once, tabs
from gridllm.ledger.store.seals import parties

ENROLMENT: Final = "enrolment"  # as fold.apply names it
QUERY_KEYS: Final = 500  # in one query
MAX_SUM: Final = 2**63 - 1  # of a BIGINT

T = TypeVar("T", Account, Tab)
K = TypeVar("K")


@dataclass(slots=True)
class Kept(Generic[T]):
    """A row in memory."""

    value: T
    stored: tuple[int, ...]  # its values in the database
    number: int = 0  # 0: not in the database, and no entry names it yet
    new: bool = True  # not in the database


class Shelf:
    """Books in a transaction of a database. ``save`` writes what changed."""

    def __init__(self, connection: Connection, now_s: float) -> None:
        self._connection = connection
        self._now_s = now_s
        self._accounts: dict[str, Kept[Account]] = {}
        self._tabs: dict[TabKey, Kept[Tab]] = {}
        self._once: dict[bytes, set[str]] = {}  # by subject: the kinds seen
        self._new_once: list[tuple[str, bytes]] = []
        self._gifts: dict[tuple[str, int], int] = {}
        self._new_gifts: set[tuple[str, int]] = set()
        self._held_before: dict[str, int] = {}  # by payer: in the database
        self._held_since: dict[str, int] = defaultdict(int)  # what entries of this transaction changed of it

    @cached_property
    def counters(self) -> Counters:
        """Row numbers in use."""
        return read_counters(self._connection)

    def load(self, coming: Iterable[Entry]) -> None:
        """Read what these entries will need, in few queries."""
        known = list(coming)
        self._load_tabs({entry.statement.tab for entry in known if isinstance(entry.statement, OnTab)})
        named = [parties(entry.statement) for entry in known]
        payees = {payee for _, payee in named}
        self._load_accounts(payees | {payer for payer, _ in named if payer is not None})
        once_said = {entry.id for entry in known if not isinstance(entry.statement, OnTab)}
        self._load_once(once_said | {bytes.fromhex(payee) for payee in payees})  # the latter: whether they are enrolled

    def account(self, account: str) -> Account:
        """See ``Books``."""
        return self._kept_account(account).value

    def tab(self, key: TabKey) -> Tab:
        """See ``Books``."""
        return self._kept_tab(key).value

    def has_tab(self, key: TabKey) -> bool:
        """Whether an entry names it."""
        return self._kept_tab(key).number > 0

    def first(self, kind: str, subject: bytes) -> bool:
        """See ``Books``."""
        if self.has_seen(kind, subject):
            return False
        self._once[subject].add(kind)
        self._new_once.append((kind, subject))
        return True

    def has_seen(self, kind: str, subject: bytes) -> bool:
        """Whether ``first`` was told of this one-time statement, ever; notes nothing."""
        if subject not in self._once:
            self._load_once([subject])
        return kind in self._once[subject]

    def enrolled(self, account: str) -> bool:
        """Whether the books hold a certificate to serve of that account."""
        return self.has_seen(ENROLMENT, bytes.fromhex(account))

    def escrowed(self, account: str) -> int:
        """What of the account's balance is set aside at the transaction's time, micro-credits."""
        if account not in self._held_before:
            self._held_before[account] = rows.held_by(self._connection, account, self._now_s)
        return self._held_before[account] + self._held_since[account]

    def available(self, account: str) -> int:
        """What the account can still set aside or send, micro-credits."""
        return self.account(account).balance - self.escrowed(account)

    def gifted(self, account: str, day: int) -> int:
        """What the account was given of the newcomers' allowance on that day (since 1970, UTC), micro-credits."""
        key = account, day
        if key not in self._gifts:
            self._gifts[key] = rows.given_to(self._connection, account, day)
        return self._gifts[key]

    def give(self, account: str, day: int, micro: int) -> None:
        """Note more of the allowance as given."""
        self._gifts[account, day] = self.gifted(account, day) + micro
        self._new_gifts.add((account, day))

    def held_changed(self, account: str, micro: int) -> None:
        """Note that an entry changed what the account has set aside."""
        self._held_since[account] += micro

    def number_account(self, account: str) -> int:
        """The account's row number; it has a row from now on."""
        kept = self._kept_account(account)
        if not kept.number:
            self.counters.accounts += 1
            kept.number = self.counters.accounts
        return kept.number

    def number_tab(self, key: TabKey) -> None:
        """The tab has a row from now on."""
        kept = self._kept_tab(key)
        if not kept.number:
            self.counters.tabs += 1
            kept.number = self.counters.tabs

    def save(self) -> None:
        """Write what changed since the last time.

        Raises:
            LedgerError: a sum exceeds what a database can hold.
        """
        self._save_accounts()
        self._save_tabs()
        self._write(insert(once), [{"kind": kind, "subject": subject} for kind, subject in self._new_once])
        self._new_once.clear()
        given = [
            {"account": self.number_account(account), "day": day, "micro": self._gifts[account, day]}
            for account, day in sorted(self._new_gifts)
        ]
        if any(one["micro"] > MAX_SUM for one in given):
            raise LedgerError("The gifts to an account on one day exceed what the ledger's database can hold.")
        upsert(self._connection, gifts, given)
        self._new_gifts.clear()

    def _kept_account(self, account: str) -> Kept[Account]:
        kept = self._accounts.get(account)
        if kept is None:
            self._load_accounts([account])
            kept = self._accounts[account]
        return kept

    def _kept_tab(self, key: TabKey) -> Kept[Tab]:
        kept = self._tabs.get(key)
        if kept is None:
            self._load_tabs([key])
            kept = self._tabs[key]
        return kept

    def _load_accounts(self, keys: Iterable[str]) -> None:
        for some in _parcels([key for key in keys if key not in self._accounts]):
            for key, number, *sums in self._connection.execute(rows.SELECT_ACCOUNTS, {"keys": some}):
                self._accounts[key] = Kept(Account(*sums), tuple(sums), number, new=False)
            for key in some:
                if key not in self._accounts:
                    self._accounts[key] = Kept(Account(), ())

    def _load_tabs(self, keys: Iterable[TabKey]) -> None:
        for some in _parcels([(key.digest, key) for key in keys if key not in self._tabs]):
            left = dict(some)
            for digest, number, *amounts, released in self._connection.execute(rows.SELECT_TABS, {"keys": list(left)}):
                tab = Tab(*amounts)
                tab.released = bool(released)
                self._tabs[left.pop(bytes(digest))] = Kept(tab, tab_values(tab), number, new=False)
            for key in left.values():
                self._tabs[key] = Kept(Tab(), ())

    def _load_once(self, subjects: Iterable[bytes]) -> None:
        for some in _parcels([subject for subject in subjects if subject not in self._once]):
            self._once.update({subject: set() for subject in some})
            for kind, subject in self._connection.execute(rows.SELECT_ONCE, {"keys": some}):
                self._once[bytes(subject)].add(kind)

    def _save_accounts(self) -> None:
        fresh, changed = [], []
        for key, kept in self._accounts.items():
            values = account_values(kept.value)
            if not kept.number or values == kept.stored:
                continue
            if max(values) > MAX_SUM:
                raise LedgerError(f"The sums of account {key[:16]}… exceed what the ledger's database can hold.")
            row: dict[str, Any] = dict(zip(rows.ACCOUNT_COLUMNS, values, strict=True))
            if kept.new:
                fresh.append(row | {"number": kept.number, "key": key})
            else:
                changed.append(row | {"row": kept.number})
            kept.stored, kept.new = values, False
        self._write(insert(accounts), fresh)
        self._write(rows.UPDATE_ACCOUNTS, changed)

    def _save_tabs(self) -> None:
        fresh, changed = [], []
        for key, kept in self._tabs.items():
            values = tab_values(kept.value)
            if not kept.number or values == kept.stored:
                continue
            row: dict[str, Any] = dict(zip(rows.TAB_COLUMNS, values, strict=True))
            if kept.new:
                payer = self.number_account(key.payer)
                fresh.append(row | {"number": kept.number, "digest": key.digest, "payer": payer})
            else:
                changed.append(row | {"row": kept.number})
            kept.stored, kept.new = values, False
        self._write(insert(tabs), fresh)
        self._write(rows.UPDATE_TABS, changed)

    def _write(self, statement: Any, changed: Sequence[Mapping[str, Any]]) -> None:
        if changed:
            self._connection.execute(statement, changed)


def _parcels(keys: list[K]) -> Iterator[list[K]]:
    for start in range(0, len(keys), QUERY_KEYS):
        yield keys[start : start + QUERY_KEYS]
