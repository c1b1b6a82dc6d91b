"""Books as docs/ledger.md spells them: its formulas over a set of statements, written down once more without a fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gridllm.admission.certificate import Certificate
from gridllm.ids import PeerId
from gridllm.ledger.fold import Account, Tab
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow, Grant, OnTab, Release, TabKey, Transfer, Voucher, account_of


@dataclass
class Spelled:
    """Books as docs/ledger.md spells them: no order, no state."""

    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    tabs: dict[TabKey, Tab] = field(default_factory=lambda: defaultdict(Tab))
    minted: int = 0  # by grants and starters
    enrolled: set[str] = field(default_factory=set)
    told: set[bytes] = field(default_factory=set)  # ids of the statements

    def held(self, account: str, now_s: int) -> int:
        """In escrow then."""
        return sum(
            tab.escrow - min(tab.escrow, tab.claimed)
            for key, tab in self.tabs.items()
            if key.payer == account and not tab.released and tab.expires > now_s
        )

    def available(self, account: str, now_s: int) -> int:
        return self.accounts.get(account, Account()).balance - self.held(account, now_s)


def books_of(entries: Iterable[Entry], starter: int) -> Spelled:
    """What follows from a set of statements, however often and in whatever order it tells them."""
    told = {entry.id: entry.statement for entry in entries}
    books = Spelled(told=set(told))
    books.enrolled = {account_of(PeerId(said.peer)) for said in told.values() if isinstance(said, Certificate)}
    grants = [said for said in told.values() if isinstance(said, Grant)]
    books.minted = sum(grant.micro for grant in grants) + starter * len(books.enrolled)
    for grant in grants:
        books.accounts[grant.account].granted += grant.micro
    for account in books.enrolled:
        books.accounts[account].granted += starter
    for said in told.values():
        if isinstance(said, Transfer):
            books.accounts[said.payer].sent += said.micro
            books.accounts[said.payee].received += said.micro
    on_tabs: dict[TabKey, list[OnTab]] = defaultdict(list)
    for said in told.values():
        if isinstance(said, OnTab):
            on_tabs[said.tab].append(said)
    for key, saids in on_tabs.items():
        escrows = [said for said in saids if isinstance(said, Escrow)]
        claims = [(said.micro, said.prefill, said.decode) for said in saids if isinstance(said, Voucher)]
        claimed, prefill, decode = max(claims, default=(0, 0, 0))
        escrow = max((said.micro for said in escrows if not said.gift), default=0)
        gift = max((said.micro for said in escrows if said.gift), default=0)
        expires = max((said.expires for said in escrows), default=0)
        released = any(isinstance(said, Release) for said in saids)
        books.tabs[key] = Tab(escrow, gift, expires, claimed, prefill, decode, released)
        books.accounts[key.payer].spent += min(escrow, claimed)
        books.accounts[key.payee].earned += min(escrow, claimed)
    books.accounts = {key: one for key, one in books.accounts.items() if one != Account()}
    return books


def check_kept(books: Spelled, entry: Entry, outcome: str) -> None:
    """What a keeper acknowledged with this outcome stands in its books, whatever became of it since."""
    said = entry.statement
    if isinstance(said, Voucher):
        tab = books.tabs[said.tab]
        assert (tab.claimed, tab.prefill, tab.decode) >= (said.micro, said.prefill, said.decode)
        assert outcome == "known" or tab.paid >= said.micro - tab.gift
    elif isinstance(said, Release):
        assert outcome == "known" or books.tabs[said.tab].released
    elif isinstance(said, Certificate):
        assert account_of(PeerId(said.peer)) in books.enrolled
    else:
        assert entry.id in books.told


def verdicts(before: Spelled, entry: Entry, now_s: int, *, barred: bool) -> tuple[str, ...]:
    """What a home keeper may say of a statement: who has what it takes is served. ``barred``: the payee is revoked."""
    said = entry.statement
    if isinstance(said, Voucher):
        return ("later",) if barred or said.payee not in before.enrolled else _of_voucher(before, said, now_s)
    if isinstance(said, Transfer):
        covered = before.available(said.payer, now_s) >= said.micro
        return ("known",) if entry.id in before.told else ("accepted",) if covered else ("insufficient",)
    if isinstance(said, Grant):
        return ("known",) if entry.id in before.told else ("accepted",)
    return ("accepted", "known")


def _of_voucher(before: Spelled, said: Voucher, now_s: int) -> tuple[str, ...]:
    tab = before.tabs.get(said.tab, Tab())
    if said.micro < tab.claimed:
        return ("known",)
    escrow = max(tab.escrow, said.micro - tab.gift)
    held = 0 if tab.released or tab.expires <= now_s else tab.escrow - tab.paid
    if min(escrow, said.micro) - tab.paid <= held + before.available(said.payer, now_s):
        return ("accepted", "known")
    return ("later",) if said.micro > tab.claimed else ("later", "known")
