"""Paying the nodes of one session: escrow before a hop is opened, vouchers as outputs come back, the rest at the end.

What is owed is decided in ``tab.py``; here is what is asked of the home keeper and sent to nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from gridllm.errors import BadPayment, GridError, Insufficient, KeeperSilent, NotEntitled, PeerLost, Refusal
from gridllm.ids import PeerId, SessionId
from gridllm.ledger.messages import Wish
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import TabKey, account_of
from gridllm.wire.messages import Owing, Pay, Payment, Ready, RowSlice
from gridllm_client.hop import Hop
from gridllm_client.repair import Call
from gridllm_client.tab import Bill, Tab
from gridllm_client.terms import ChainEvent, OnEvent, Terms
from gridllm_client.wallet import Wallet

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between looks at what ends soon
RETRY_S: Final = 10.0  # after the keeper gave nothing
MOST_DISPUTES: Final = 3  # nodes; when a fourth says so, too, it is not the nodes
OPENING_WINDOWS: Final = 4  # set aside at first for a session of unknown length; doubled as it goes on
SPARE_WINDOWS: Final = 2  # of them left: time to ask for more
RENEW: Final = 0.49  # of an escrow's life left: keepers prolong none with more than half


class Payer:
    """Pays for one session. Lives on the grid's event loop."""

    def __init__(
        self, wallet: Wallet, terms: Terms, on_event: OnEvent | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._wallet = wallet
        self._terms = terms
        self._on_event = on_event
        self._clock = clock
        self._tabs: dict[TabKey, tuple[PeerId, Tab]] = {}  # of every hop there ever was
        self._free = False  # it is served without pay from now on, after all who do
        self._stale = False  # somebody did not accept what was shown
        self._disputes: set[PeerId] = set()  # nodes that would not serve this account as it stands
        self._looked_at = self._retry_at = float("-inf")  # time.monotonic()
        self._tending: asyncio.Task[None] | None = None

    @property
    def bills(self) -> tuple[Bill, ...]:
        """What each node metered, and what was signed for it; nodes that were replaced included."""
        return tuple(Bill(peer, key.start, key.end, *tab.count, tab.paid) for key, (peer, tab) in self._tabs.items())

    async def arrange(self, session: SessionId, hops: Sequence[Hop], tokens: int) -> None:
        """Before the chain is brought into a shape: escrow for new hops, all in one call, and what ``Open`` shows.

        Args:
            tokens: of all rows, which a hop may have to be fed again.

        Raises:
            Insufficient: the account has less, and the grid serves nobody who does not pay.
            KeeperSilent: no escrow, and no pass on which a node could trust the account.
            BadPayment: a node's bill in this session was closed for good; open another session.
            Refusal: the keeper declines.
        """
        await self._wallet.renew()
        paying = [hop for hop in hops if self._pays(hop)] if not (self._free or self._lacking) else []
        fresh = {hop: self._tab_of(session, hop) for hop in paying}
        held = [hop.tab for hop in hops if hop.tab is not None and self._short(hop.tab, tokens)]
        self._stale = False
        try:
            await self._reserve([*fresh.values(), *held], tokens)
        except (KeeperSilent, Insufficient) as error:
            if self._wallet.economy.newcomers == "lowest":
                self._serve_free(error)
                if held and isinstance(error, Insufficient):
                    raise BadPayment("The session goes on without pay, and so as another one.") from error
                fresh = {}
            elif isinstance(error, Insufficient) or (fresh and not self._wallet.access):
                raise
        for hop, tab in fresh.items():
            hop.tab = tab
            self._tabs[tab.key] = hop.peer, tab
        for hop in hops:
            if hop.tab in held:
                _send(hop, Pay(session, escrow=hop.tab.document))
            hop.payment = self._payment(hop)

    def stands(self, hop: Hop, ready: Ready, call: Call, need: Sequence[int]) -> None:
        """A hop came into shape: count as it does, and pay for what will be replayed to it before that is.

        Args:
            need: per row, the position from which it is fed again.

        Raises:
            BadPayment: the node claims tokens that nobody sent it.
        """
        tab = hop.tab
        if tab is None:
            return
        count = Count(ready.prefill, ready.decode)
        tab.adopt(count, sum(s.tokens > 1 for s in call.slices.values()))
        if tab.tariff.cost(count) < tab.signed:
            self._repeat(hop, tab)  # the node may have begun anew, and know nothing of it
        tab.replayed(sum(call.after) - sum(need))
        self._pay(hop, tab, tab.ahead())

    async def charge(self, hops: Sequence[Hop], slices: Sequence[RowSlice], step: int) -> bool:
        """A call is about to be sent through ``hops``: pay ahead what exceeds the window.

        Returns:
            False: credit ran out; bring the chain into shape under another session, and it goes on without pay.

        Raises:
            Insufficient: the account has less than the call costs.
        """
        bare = False
        for hop in hops:
            if (tab := hop.tab) is not None:
                tab.add(slices, step)
                bare = bare or (tab.expires > 0 and tab.owed > tab.covered)
        if bare and not await self._raised(hops):
            return False
        for hop in hops:
            if (tab := hop.tab) is not None:
                self._pay(hop, tab, tab.ahead())
        return True

    def came_back(self, hops: Sequence[Hop]) -> None:
        """All outputs of the call are here."""
        for hop in hops:
            if (tab := hop.tab) is not None:
                tab.served()
                self._pay(hop, tab, tab.due())

    def settle(self, hop: Hop) -> None:
        """A hop is about to be left: pay the rest."""
        if hop.tab is not None:
            self._pay(hop, hop.tab, hop.tab.rest())

    def owing(self, hop: Hop, owing: Owing) -> str | None:
        """A node waits for a voucher; returns why it must be left instead."""
        tab = hop.tab
        if tab is None:
            return "it asks to be paid, and was opened without"
        try:
            count = tab.asked(owing.micro)
        except BadPayment as error:
            return str(error)
        if count is None:
            self._repeat(hop, tab)
            self._looked_at = self._retry_at = float("-inf")  # it may wait for escrow, or for one that lasts
            self.tend([hop])
        self._pay(hop, tab, count)
        return None

    def disputed(self, peer: PeerId, refusal: Refusal) -> Literal["again", "leave", "fatal"]:
        """A node will not serve this account as it stands. The first time newer documents are shown to it.

        By the account's own pass it is clear whether the charter opens the model to it; all else is that node's word.
        """
        first = not self._disputes
        self._disputes.add(peer)
        if first:
            self._stale = True
            self._wallet.forget()
            return "again"
        if isinstance(refusal, NotEntitled) and self._lacking:
            return "fatal"  # no other node may say otherwise
        return "leave" if len(self._disputes) <= MOST_DISPUTES else "fatal"

    def tend(self, hops: Sequence[Hop]) -> None:
        """Between two calls, now and again: have raised what ends soon; never waits."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S or now < self._retry_at or self._tending is not None:
            return
        self._looked_at = now
        if self._wallet.aging or any(hop.tab is not None and self._ends(hop.tab) for hop in hops):
            self._tending = asyncio.create_task(self._tend(list(hops)))

    def close(self) -> None:
        """The session is over."""
        if self._tending is not None:
            self._tending.cancel()

    # what is set aside

    @property
    def _lacking(self) -> bool:
        """Whether the model is not open to the account, by its own pass. A node has the sentence that says so."""
        return self._wallet.contribution < self._wallet.economy.tier(self._terms.model)

    def _pays(self, hop: Hop) -> bool:
        """Whether a bill begins with this hop; a node of the account's own has nothing to be paid."""
        return hop.tab is None and not hop.opened and account_of(hop.peer) != self._wallet.account

    def _tab_of(self, session: SessionId, hop: Hop) -> Tab:
        """The hop's tab; where the node was left and is back, it goes on."""
        model = self._terms.model
        key = TabKey(session.hex(), self._wallet.account, account_of(hop.peer), model, hop.start, hop.end)
        if key in self._tabs:
            return self._tabs[key][1]
        return Tab(key, self._wallet.tariff(model, hop.start, hop.end))

    def _wanted(self, tab: Tab, tokens: int) -> int:
        """Micro-credits to ask for: what the session will cost, as far as can be told."""
        cost, window = tab.tariff.cost, tab.tariff.window
        floor = tab.owed + cost(Count(prefill=tokens))
        if self._terms.tokens:
            return max(floor, window, tab.covered, cost(Count(decode=self._terms.rows * self._terms.tokens)))
        return max(floor + OPENING_WINDOWS * window, 2 * tab.covered)

    def _short(self, tab: Tab, tokens: int) -> bool:
        """Whether the hop needs another escrow before it is fed again."""
        if not tab.expires:
            return False  # on trust
        return self._stale or self._aging(tab) or tab.owed + tab.tariff.cost(Count(prefill=tokens)) > tab.covered

    def _ends(self, tab: Tab) -> bool:
        """Whether it will need one soon."""
        spare = 0 if self._terms.tokens else SPARE_WINDOWS * tab.tariff.window
        return self._aging(tab) or tab.owed + spare > tab.covered

    def _aging(self, tab: Tab) -> bool:
        return tab.expires - self._clock() < RENEW * self._wallet.economy.escrow_s

    async def _reserve(self, tabs: Sequence[Tab], tokens: int = 0) -> None:
        wishes = []
        for tab in tabs:
            session, _, payee, model, start, end = tab.key
            wishes.append(Wish(session, payee, model, start, end, self._wanted(tab, tokens)))
        if wishes:
            for tab, (raw, escrow) in zip(tabs, await self._wallet.escrows(wishes), strict=True):
                tab.reserved(escrow, raw)

    async def _raised(self, hops: Sequence[Hop]) -> bool:
        """More is set aside for all hops at once."""
        try:
            await self._raise(hops)
        except KeeperSilent as silent:
            log.info("No more could be set aside: %s", silent)  # the nodes decide how far they trust
        except Insufficient as error:
            if self._wallet.economy.newcomers != "lowest":
                raise
            self._serve_free(error)
            return False
        return True

    async def _raise(self, hops: Sequence[Hop]) -> None:
        paying = {hop: hop.tab for hop in hops if hop.tab is not None}
        await self._reserve(list(paying.values()))
        for hop, tab in paying.items():
            _send(hop, Pay(bytes.fromhex(tab.key.session), escrow=tab.document))

    async def _tend(self, hops: list[Hop]) -> None:
        try:
            await self._wallet.renew()
            if any(hop.tab is not None and self._ends(hop.tab) for hop in hops):
                await self._raise(hops)
        except GridError as error:
            log.info("What the session shows its nodes could not be renewed: %s", error)
            self._retry_at = time.monotonic() + RETRY_S
        finally:
            self._tending = None

    def _serve_free(self, why: GridError) -> None:
        if not self._free and self._on_event is not None:
            self._on_event(ChainEvent("unpaid", f"served at lowest priority: {why}"))
        self._free = True

    # what is shown and sent

    def _payment(self, hop: Hop) -> Payment | None:
        access = self._wallet.access
        document = hop.tab.document if hop.tab is not None else b""
        return Payment(self._wallet.delegation(), access, document) if access else None

    def _pay(self, hop: Hop, tab: Tab, count: Count | None) -> None:
        if count is None:
            return
        micro, access = tab.tariff.cost(count), b""
        if hop.payment is not None and hop.payment.access != self._wallet.access:
            access = self._wallet.access
            hop.payment = msgspec.structs.replace(hop.payment, access=access)
        voucher = self._wallet.voucher(tab.key, count, micro)
        if _send(hop, Pay(bytes.fromhex(tab.key.session), voucher=voucher, access=access)):
            tab.sent(voucher, count)

    def _repeat(self, hop: Hop, tab: Tab) -> None:
        """The node may lack the highest voucher."""
        if tab.voucher:
            _send(hop, Pay(bytes.fromhex(tab.key.session), voucher=tab.voucher))


def _send(hop: Hop, pay: Pay) -> bool:
    if hop.link is None or hop.link.lost is not None:
        return False
    try:
        hop.link.send(pay)
    except PeerLost:
        return False  # its session hears of it
    return True
