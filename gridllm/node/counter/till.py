"""Where clients pay: decides on the terms of each session, and takes its vouchers."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.errors import BadPayment, NotEntitled, SessionExists
from gridllm.ids import PeerId
from gridllm.ledger.paper import Rulebook
from gridllm.ledger.statements import Escrow, TabKey, Voucher
from gridllm.ledger.trust import trusted
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.papers import Papers
from gridllm.node.counter.purse import Earnings, Purse
from gridllm.node.counter.terms import Facts, admit, asks_keeper, fresh
from gridllm.wire.messages import Open, Pay

KEEPER_S: Final = 2.0  # for a keeper to show that it is not silent
LEFT_S: Final = 86400.0  # for so long an account that was trusted and did not pay counts among those who are


class Ears(Protocol):
    """The keepers, as ``ledger.keepers.Keepers`` hears them."""

    def home(self, account: str) -> str:
        """Which keeper keeps the account's books."""
        ...

    async def answers(self, keeper: str, within_s: float = 2.0) -> bool:
        """Whether it answers now."""
        ...


@dataclass(slots=True)
class Terms:
    """How one session is served."""

    priority: int = 0  # class in the batch
    bill: Bill | None = None  # None: nothing is metered
    contribution: int = 0  # of the account, by its pass; micro-credits


class Till:
    """One node's. Lives on the event loop: verifying a statement takes 0.2 ms."""

    def __init__(
        self,
        signed: SignedCharter,
        entry: ModelEntry,
        rules: Rulebook,
        account: str,
        keepers: Ears,
        purse: Purse,
        *,
        clock: Callable[[], float] = time.time,
        contribution: Callable[[str], int] | None = None,
        served: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """
        Args:
            account: this node's (hex key); it is who is paid.
            contribution: what an account must have given to use the model of a root (``Catalogue.contribution``), in
                micro-credits; None: as the charter says.
            served: whether the grid serves the model of a root still: a listing may be withdrawn.
            clock: Unix time, seconds.
        """
        self.clock = clock
        self._economy = signed.charter.economy
        self._contribution = contribution or self._economy.tier
        self._served = served
        self._entry = entry
        self._rules = rules
        self._account = account
        self._keepers = keepers
        self._purse = purse
        self._papers = Papers(signed, rules)
        self._on_trust: defaultdict[str, dict[TabKey, Bill]] = defaultdict(dict)  # by payer: open now
        self._left: dict[str, float] = {}  # who was trusted and left something unpaid, and when

    def beside(self, entry: ModelEntry) -> Till:
        """The till of another model at the same counter: what an account owes at one, it owes at both."""
        other = copy.copy(self)
        other._entry = entry
        return other

    @property
    def earnings(self) -> Earnings:
        """How this node's work was paid so far."""
        return self._purse.earnings

    async def admit(self, opened: Open, client: PeerId) -> Terms:
        """The terms of a session that is to be opened; span and model are this node's, as the caller checked.

        Raises:
            NotEntitled: the charter's policy does not open this to the account.
            BadPayment: what was shown is forged, expired or another's.
            SessionExists: the bill of that session was closed for good.
            Full: too much is asked of this node at once.
        """
        if not self._served(self._entry.root):
            raise NotEntitled(f"{self._entry.name} was taken down: the grid serves it no more.")
        shown = None if opened.payment is None else self._papers.shown(opened.payment, client, self.clock())
        account = shown.access.account if shown is not None else ""
        if shown is not None and account == self._account:
            return Terms(self._economy.priority(shown.access.contribution))  # its owner: nobody pays himself
        bill = self._bill(opened, account, 0 if shown is None else trusted(self._economy, shown.access))
        if shown is not None and shown.escrow is not None:
            bill.raise_escrow(shown.escrow)
        slip = self._purse.slip(bill.tab)
        if slip is not None and slip.released:
            raise SessionExists("The bill of this session was settled for good; choose another id.")
        silent = asks_keeper(self._economy, shown, self.clock()) and not await self._keepers.answers(
            self._keepers.home(account), KEEPER_S
        )
        facts = Facts(
            self.clock(),
            silent,
            self._debt(account, bill.tab),
            self._debtors(account) if silent else 0,
            self._purse.left_unpaid(account),
            bill.window,
            self._contribution(self._entry.root),
        )
        ruling = admit(self._economy, self._entry, shown, facts)
        contribution = shown.access.contribution if shown is not None else 0
        return Terms(ruling.priority, None if ruling.mode == "unmetered" else bill, contribution)

    def begin(self, bill: Bill) -> None:
        """The session of that bill is open now."""
        self._purse.begin(bill)
        if bill.on_trust:
            self._on_trust[bill.tab.payer][bill.tab] = bill

    def shut(self, bill: Bill, *, by_client: bool) -> None:
        """It ended."""
        if bill.on_trust and bill.unpaid:
            self._left[bill.tab.payer] = self.clock()
        self._covered(bill)
        self._purse.shut(bill, by_client=by_client)

    def affords(self, client: PeerId, pay: Pay) -> bool:
        """Whether what the client sends may be verified now; else it must wait, not be lost."""
        return self._papers.affords(client, bool(pay.voucher) + bool(pay.escrow) + bool(pay.access))

    def pay(self, terms: Terms, bill: Bill, pay: Pay) -> None:
        """Take what a client shows for its session.

        Raises:
            BadPayment: a part of it cannot be used; voucher, escrow and pass are taken in this order, up to there.
        """
        if pay.voucher:
            voucher = self._papers.read(pay.voucher, Voucher)
            if bill.pay(voucher):
                self._purse.keep(bill, pay.voucher, voucher)
        if pay.escrow and bill.raise_escrow(self._papers.read(pay.escrow, Escrow)):
            self._covered(bill)
            self._purse.note(bill)
            terms.priority = self._class(terms, bill)
        if pay.access:
            access = self._papers.access(pay.access)
            if access.account != bill.tab.payer:
                raise BadPayment("The access pass is another account's.")
            if not fresh(access, self.clock()):
                raise BadPayment("The access pass has expired; ask the account's keeper for another.")
            terms.contribution = access.contribution
            terms.priority = self._class(terms, bill)

    def _class(self, terms: Terms, bill: Bill) -> int:
        return 0 if bill.gifted else self._economy.priority(terms.contribution)

    def _bill(self, opened: Open, account: str, most: int) -> Bill:
        """The bill that the session would have; ``most``: what the account is trusted with."""
        tab = TabKey(opened.session.hex(), account, self._account, opened.model, opened.start, opened.end)
        parameters = self._rules.parameters(opened.model, opened.start, opened.end)

        def trust() -> int:
            return max(0, most - self._debt(account, tab)) + self._accepted(tab)

        free = self._economy.newcomers == "lowest"
        return Bill(
            tab, self._economy.prices, parameters, self._economy.window_tokens, trust=trust, free_beyond_trust=free
        )

    def _debt(self, account: str, besides: TabKey) -> int:
        """What the account was served on trust, in other sessions than that one."""
        others = [bill for tab, bill in self._on_trust.get(account, {}).items() if tab != besides]
        live = sum(max(0, bill.cost - self._accepted(bill.tab)) for bill in others)
        return live + self._purse.debt(account, [besides, *(bill.tab for bill in others)])

    def _debtors(self, besides: str) -> int:
        """How many other accounts this node serves, or served, on trust and has nothing to show for yet."""
        since = self.clock() - LEFT_S
        for account in [account for account, at in self._left.items() if at <= since]:
            del self._left[account]  # in place: tills of one counter share it
        return len((self._on_trust.keys() | self._purse.debtors() | self._left.keys()) - {besides})

    def _covered(self, bill: Bill) -> None:
        """The bill is on trust no longer."""
        if bills := self._on_trust.get(bill.tab.payer):
            bills.pop(bill.tab, None)
            if not bills:
                del self._on_trust[bill.tab.payer]

    def _accepted(self, tab: TabKey) -> int:
        slip = self._purse.slip(tab)
        return 0 if slip is None else slip.accepted
