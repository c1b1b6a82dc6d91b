"""The fold: from a set of statements to balances. Idempotent and free of order; every step takes from one what it
gives to another, and only grants (and starters) add.

A statement changes its tab by taking a maximum, or joins a set; accounts follow the tabs. So the same statements give
the same balances in whatever order, and however often, they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gridllm.admission.certificate import Certificate
from gridllm.ids import PeerId
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow, Grant, Release, TabKey, Transfer, Voucher, account_of


@dataclass(slots=True)
class Account:
    """Sums over all that was ever said of one account, micro-credits."""

    granted: int = 0  # grants and the starter
    earned: int = 0  # vouchers it was paid with
    spent: int = 0  # vouchers it paid with
    received: int = 0  # transfers to it
    sent: int = 0  # transfers from it

    @property
    def balance(self) -> int:
        """What it has, escrow included."""
        return self.granted + self.earned + self.received - self.spent - self.sent

    @property
    def contribution(self) -> int:
        """What it gave beyond what it took, and still has: sent credit takes along the standing that it earned.

        A closed group of accounts has 0 together, or less, whatever they pay and send each other: one credit that goes
        round, paid for service and sent back, lifts nobody for long.
        """
        return self.earned - self.spent - self.sent


@dataclass(slots=True)
class Tab:
    """One node's bill in one session."""

    escrow: int = 0  # set aside, in total
    gift: int = 0  # the same, of an allowance that nobody pays
    expires: int = 0  # Unix time the latest escrow ends
    claimed: int = 0  # by the highest voucher
    prefill: int = 0  # tokens, as that voucher says
    decode: int = 0
    released: bool = False

    @property
    def paid(self) -> int:
        """What changed hands, micro-credits."""
        return min(self.escrow, self.claimed)

    def held(self, now_s: float) -> int:
        """What of the payer's balance is set aside now and not paid yet."""
        return 0 if self.released or self.expires <= now_s else self.escrow - self.paid


class Books(Protocol):
    """Where the fold keeps its state. ``Ledger`` keeps it in memory, the store in a database."""

    def account(self, account: str) -> Account:
        """The account's sums, to be changed in place; a fresh one if it is new."""
        ...

    def tab(self, key: TabKey) -> Tab:
        """The tab, to be changed in place; a fresh one if it is new."""
        ...

    def first(self, kind: str, subject: bytes) -> bool:
        """Note that this one-time statement was seen; whether it is the first time."""
        ...


def apply(books: Books, entry: Entry, starter: int) -> bool:
    """Take one statement in; whether it changed anything. ``starter``: the charter's, micro-credits."""
    said = entry.statement
    if isinstance(said, Voucher):
        return _apply_voucher(books, said)
    if isinstance(said, Escrow):
        return _apply_escrow(books, said)
    if isinstance(said, Release):
        tab = books.tab(said.tab)
        changed = not tab.released
        tab.released = True
        return changed
    if isinstance(said, Grant):
        return _mint(books, "grant", entry.id, said.account, said.micro)
    if isinstance(said, Certificate):
        account = account_of(PeerId(said.peer))
        return _mint(books, "enrolment", bytes.fromhex(account), account, starter)
    return _apply_transfer(books, entry.id, said)


def _apply_voucher(books: Books, voucher: Voucher) -> bool:
    tab = books.tab(voucher.tab)
    if voucher.micro < tab.claimed or (voucher.prefill, voucher.decode) == (tab.prefill, tab.decode):
        return False
    if voucher.micro == tab.claimed and (voucher.prefill, voucher.decode) < (tab.prefill, tab.decode):
        return False  # two ways to spell one amount: the larger count, so that order does not matter
    before = tab.paid
    tab.claimed, tab.prefill, tab.decode = voucher.micro, voucher.prefill, voucher.decode
    _pay(books, voucher.payer, voucher.payee, tab.paid - before)
    return True


def _apply_escrow(books: Books, escrow: Escrow) -> bool:
    tab = books.tab(escrow.tab)
    before = tab.paid
    held = tab.escrow, tab.gift, tab.expires
    if escrow.gift:
        tab.gift = max(tab.gift, escrow.micro)
    else:
        tab.escrow = max(tab.escrow, escrow.micro)
    tab.expires = max(tab.expires, escrow.expires)
    _pay(books, escrow.payer, escrow.payee, tab.paid - before)
    return held != (tab.escrow, tab.gift, tab.expires)


def _apply_transfer(books: Books, subject: bytes, transfer: Transfer) -> bool:
    if not books.first("transfer", subject):
        return False
    books.account(transfer.payer).sent += transfer.micro
    books.account(transfer.payee).received += transfer.micro
    return True


def _mint(books: Books, kind: str, subject: bytes, account: str, micro: int) -> bool:
    if not books.first(kind, subject):
        return False
    books.account(account).granted += micro
    return True


def _pay(books: Books, payer: str, payee: str, micro: int) -> None:
    if micro:
        books.account(payer).spent += micro
        books.account(payee).earned += micro


@dataclass(slots=True)
class Ledger:
    """Books in memory: for auditors and tests."""

    accounts: dict[str, Account] = field(default_factory=dict)
    tabs: dict[TabKey, Tab] = field(default_factory=dict)
    seen: set[tuple[str, bytes]] = field(default_factory=set)

    def account(self, account: str) -> Account:
        """The account's sums."""
        return self.accounts.setdefault(account, Account())

    def tab(self, key: TabKey) -> Tab:
        """The tab."""
        return self.tabs.setdefault(key, Tab())

    def first(self, kind: str, subject: bytes) -> bool:
        """Whether this is the first time."""
        if (kind, subject) in self.seen:
            return False
        self.seen.add((kind, subject))
        return True

    def held(self, account: str, now_s: float) -> int:
        """What of the account's balance is in escrow now, micro-credits."""
        return sum(tab.held(now_s) for key, tab in self.tabs.items() if key.payer == account)
