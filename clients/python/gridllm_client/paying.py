"""Paying the nodes of one session: escrow before a hop is opened, vouchers as outputs come back, the rest at the end.

What is owed is decided in ``tab.py``; here is what is asked of the home keeper and sent to nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gridllm.errors import BadPayment, GridError, Insufficient, KeeperSilent, PeerLost, Refusal
from gridllm.ids import PeerId, SessionId
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import TabKey, account_of
from gridllm.wire.messages import Owing, Pay, Payment, Ready, RowSlice
from gridllm_client.disputes import Disputes, Means
from gridllm_client.hop import Hop
from gridllm_client.repair import Call
from gridllm_client.reserve import Reserve
from gridllm_client.tab import Bill, Tab
from gridllm_client.terms import ChainEvent, OnEvent, Terms
from gridllm_client.wallet import Wallet

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between looks at what ends soon
RETRY_S: Final = 5.0  # after the keeper gave nothing
MOST_FED: Final = 3  # times that all rows are paid for in a row; a node that has nothing to show for it then is left


class Payer:
    """Pays for one session. Lives on the grid's event loop."""

    def __init__(
        self, wallet: Wallet, terms: Terms, on_event: OnEvent | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._wallet = wallet
        self._terms = terms
        self._on_event = on_event
        self._reserve = Reserve(wallet, terms, clock=clock)
        self._tabs: dict[TabKey, tuple[PeerId, Tab]] = {}  # of every hop there ever was
        self._free = False  # it is served without pay from now on, after all who do
        self._stale = False  # somebody did not accept what was shown
        self._anew: set[PeerId] = set()  # nodes for which the session began anew since outputs came back
        self._disputes = Disputes(wallet, terms.model)
        self._looked_at = self._retry_at = float("-inf")  # time.monotonic()
        self._tending: asyncio.Task[None] | None = None

    @property
    def bills(self) -> tuple[Bill, ...]:
        """What each node metered, and what was signed for it; nodes that were replaced included."""
        return tuple(Bill(peer, key.start, key.end, *tab.count, tab.paid) for key, (peer, tab) in self._tabs.items())

    async def arrange(self, session: SessionId, hops: Sequence[Hop], tokens: int) -> None:
        """Before the chain is brought into a shape: escrow for new hops, all in one call, and what ``Open`` shows.

        Args:
            tokens: of all rows, which new hops will be fed again.

        Raises:
            Insufficient: the account has less, and the grid serves nobody who does not pay.
            KeeperSilent: no escrow, and no pass on which a node could trust the account.
            BadPayment: a node's bill in this session was closed for good; open another session.
            Refusal: the keeper declines.
        """
        await self._wallet.renew()
        paying = [hop for hop in hops if self._pays(hop)] if not (self._free or self._disputes.lacking) else []
        fresh = {hop: self._tab_of(session, hop) for hop in paying}
        held = [hop.tab for hop in hops if hop.tab is not None and hop.tab.expires and self._doubtful(hop.tab)]
        self._stale = False
        try:
            await self._reserve.fill([*fresh.values(), *held], tokens)
        except (KeeperSilent, Insufficient) as error:
            if self._goes_unpaid(error):
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

    async def stands(self, hop: Hop, ready: Ready, call: Call, need: Sequence[int]) -> bool:
        """A hop came into shape: count as it does, and pay for what will be replayed to it before that is.

        Args:
            need: per row, the position from which it is fed again.

        Returns:
            As ``charge``.

        Raises:
            BadPayment: the node claims tokens that nobody sent it, or was fed again and again and gave nothing back.
            Insufficient: the account has less than the replay costs.
        """
        tab = hop.tab
        if tab is None:
            return True
        count = Count(ready.prefill, ready.decode)
        tab.adopt(count)
        if tab.tariff.cost(count) < tab.signed:
            self._repeat(hop, tab)  # the node may have begun anew, and know nothing of it
        rows = sum(call.after)
        tab.replayed(rows - sum(need))
        if tab.unanswered > MOST_FED * rows:
            raise BadPayment(f"the node counts {tab.unanswered} tokens of a prompt of {rows}, and gave nothing back")
        if _bare(tab) and not await self._raised([hop]):
            return False
        self._pay(hop, tab, tab.ahead())
        return True

    async def charge(self, hops: Sequence[Hop], slices: Sequence[RowSlice], step: int) -> bool:
        """A call is about to be sent through ``hops``: pay ahead what exceeds the window.

        Returns:
            False: the escrow is used up, and there is no other; under another session it goes on, on other terms.

        Raises:
            Insufficient: the account has less than the call costs.
        """
        bare = False
        for hop in hops:
            if (tab := hop.tab) is not None:
                tab.add(slices, step)
                bare = bare or _bare(tab)
        if bare and not await self._raised(hops):
            return False
        for hop in hops:
            if (tab := hop.tab) is not None:
                self._pay(hop, tab, tab.ahead())
        return True

    def came_back(self, hops: Sequence[Hop]) -> None:
        """All outputs of the call are here: pay what is due, before the next call, which may need a voucher there."""
        self._anew.clear()
        for hop in hops:
            if hop.tab is not None and hop.tab.served():
                self.settle(hop)

    def settle(self, hop: Hop) -> None:
        """Pay for all that came back of a hop; the rest, when it is about to be left."""
        if hop.tab is not None:
            self._pay(hop, hop.tab, hop.tab.rest())

    def owing(self, hop: Hop, owing: Owing) -> bool:
        """A node waits for a voucher; returns whether one was signed that it did not have.

        Raises:
            BadPayment: it must be left instead.
        """
        tab = hop.tab
        if tab is None:
            raise BadPayment("it asks to be paid, but the session was opened without payment")
        before, count = tab.signed, tab.asked(owing.micro)
        if count is None:
            self._repeat(hop, tab)
            self._looked_at = self._retry_at = float("-inf")  # it may wait for escrow, or for one that lasts
            self.tend([hop])
        self._pay(hop, tab, count)
        return tab.signed > before

    def disputed(self, peer: PeerId, refusal: Refusal) -> Means:
        """A node will not serve this account as it stands."""
        means = self._disputes.heard(peer, refusal)
        if means == "again":
            self._stale = True
            self._wallet.forget()
        return means

    def anew(self, peer: PeerId) -> bool:
        """A node neither opens the session nor resumes it, since it closed its bill for good: whether to begin another.

        Once, until outputs come back: all rows are paid for again, at all nodes.
        """
        first = peer not in self._anew
        self._anew.add(peer)
        return first

    def tend(self, hops: Sequence[Hop]) -> None:
        """Between two calls, now and again: have raised what ends soon; never waits."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S or now < self._retry_at or self._tending is not None:
            return
        self._looked_at = now
        if self._wallet.aging or any(hop.tab is not None and self._reserve.ends(hop.tab) for hop in hops):
            self._tending = asyncio.create_task(self._tend(list(hops)))

    def close(self) -> None:
        """The session is over."""
        if self._tending is not None:
            self._tending.cancel()

    # what is set aside

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

    def _doubtful(self, tab: Tab) -> bool:
        """Whether a node may not accept the escrow."""
        return self._stale or self._reserve.aging(tab)

    async def _raised(self, hops: Sequence[Hop]) -> bool:
        """More is set aside for all hops at once; else whether the session can go on as it is."""
        economy = self._wallet.economy
        try:
            await self._raise(hops)
        except (KeeperSilent, Insufficient) as error:
            if self._goes_unpaid(error):
                self._serve_free(error)
            elif isinstance(error, Insufficient) or not economy.trust:
                raise
            return False  # on trust, or without pay
        return True

    async def _raise(self, hops: Sequence[Hop]) -> None:
        paying = {hop: hop.tab for hop in hops if hop.tab is not None}
        await self._reserve.fill(paying.values())
        for hop, tab in paying.items():
            _send(hop, Pay(bytes.fromhex(tab.key.session), escrow=tab.document))

    async def _tend(self, hops: list[Hop]) -> None:
        try:
            await self._wallet.renew()
            if any(hop.tab is not None and self._reserve.ends(hop.tab) for hop in hops):
                await self._raise(hops)
        except GridError as error:
            log.info("What the session shows its nodes could not be renewed: %s", error)
            self._retry_at = time.monotonic() + RETRY_S
        finally:
            self._tending = None

    def _goes_unpaid(self, error: GridError) -> bool:
        """Whether the session is served without pay from here on, since nothing is set aside for it.

        While the keeper is silent, an account in good standing pays all the same: nodes keep its vouchers.
        """
        if self._wallet.economy.newcomers != "lowest":
            return False
        return isinstance(error, Insufficient) or not self._wallet.trusted

    def _serve_free(self, why: GridError) -> None:
        if not self._free and self._on_event is not None:
            self._on_event(ChainEvent("unpaid", f"served at lowest priority: {why}"))
        self._free = True

    # what is shown and sent

    def _payment(self, hop: Hop) -> Payment | None:
        access = self._wallet.access
        document = hop.tab.document if hop.tab is not None else b""
        on_trust = hop.tab is not None and not document
        return Payment(self._wallet.delegation(), access, document, on_trust) if access else None

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


def _bare(tab: Tab) -> bool:
    """Whether the node may not serve what it is about to be sent; on trust that is its own decision."""
    return 0 < tab.covered < tab.owed


def _send(hop: Hop, pay: Pay) -> bool:
    if hop.link is None or hop.link.lost is not None:
        return False
    try:
        hop.link.send(pay)
    except PeerLost:
        return False  # its session hears of it
    return True
