"""What one session owes this node: a pure account of tokens taken, vouchers shown and how far it may go.

::

    served so far    ≤ claimed + window               at most a small window beyond the last voucher
                     ≤ escrow + min(window, escrow)   and beyond what the payer's keeper set aside
                     ≤ trust                          or, while that keeper is silent, what this node risks on it

Where the charter lets everybody in, a session on trust goes on beyond it: unmetered, as it would be for a newcomer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gridllm.charter.economy import MAX_MICRO, Prices
from gridllm.errors import BadPayment
from gridllm.ledger.metering import Meter
from gridllm.ledger.prices import Count, price, window_price
from gridllm.ledger.statements import Escrow, TabKey, Voucher
from gridllm.quantities import spell_credits
from gridllm.wire.messages import RowSlice

HAND_IN_S: Final = 30  # an escrow covers nothing new so long before it ends: its vouchers must reach the keeper

ROUNDING: Final = 1  # two prices rounded down may be one less than the price of both: whole tokens must fit


class Due(NamedTuple):
    """What a step waits for."""

    micro: int  # of the voucher that lets it go on, at least
    text: str  # one sentence for people


class Bill:
    """One metered session. Amounts are micro-credits; times are Unix seconds."""

    def __init__(
        self,
        tab: TabKey,
        prices: Prices,
        parameters: int,
        window_tokens: int,
        *,
        trust: Callable[[], int] | None = None,
        free_beyond_trust: bool = False,
    ) -> None:
        """
        Args:
            parameters: of the span.
            window_tokens: ``Economy.window_tokens``.
            trust: how much of this session the node risks without escrow, as things stand; None: nothing.
            free_beyond_trust: what goes beyond that is served all the same, and not counted; else it waits.
        """
        self.tab = tab
        self.meter = Meter()
        self.claimed = 0
        """By the highest voucher."""
        self.escrow = 0
        """Set aside by the payer's keeper."""
        self.gift = 0
        """The same, of a newcomer's allowance: bounds what is served, and nobody pays it."""
        self.expires = 0
        """When the escrow ends."""
        self.window = window_price(prices, parameters, window_tokens) + ROUNDING
        self._prices = prices
        self._parameters = parameters
        self._trust = trust
        self._free_beyond_trust = free_beyond_trust

    @property
    def cost(self) -> int:
        """Of all that was taken through the span so far."""
        return self._price(self.meter.count)

    @property
    def unpaid(self) -> int:
        """What was served beyond the highest voucher."""
        return max(0, self.cost - self.claimed)

    @property
    def cover(self) -> tuple[int, int, int, int]:
        """What is claimed and set aside, and until when: a change may let held steps go on."""
        return self.claimed, self.escrow, self.gift, self.expires

    @property
    def on_trust(self) -> bool:
        """Whether nothing is set aside for it."""
        return not self.escrow and not self.gift

    @property
    def gifted(self) -> bool:
        """Whether nobody pays for it."""
        return not self.escrow and self.gift > 0

    def allows(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False, now_s: float) -> bool:
        """Whether a step may be taken now; changes nothing."""
        cost = self._price(self.meter.after(slices, call, replay=replay))
        return (cost <= self.claimed + self.window and cost <= self._limit(now_s)) or self._is_free(cost)

    def take(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> bool:
        """Count a step that was taken; False: it is served for nothing."""
        if self._open_ended and self._is_free(self._price(self.meter.after(slices, call, replay=replay))):
            return False
        self.meter.add(slices, call, replay=replay)
        return True

    def resume(self, count: Count | None = None) -> None:
        """The chain was repaired: calls begin anew, and counts go on from here, or from ``count``."""
        self.meter.adopt(self.meter.count if count is None else count)

    def owing(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False, now_s: float) -> Due:
        """What a step that is not allowed waits for."""
        cost = self._price(self.meter.after(slices, call, replay=replay))
        micro = min(max(self.claimed, cost - self.window, 0), MAX_MICRO - 1)
        if cost <= self._limit(now_s):
            text = (
                f"{spell_credits(max(0, cost - self.claimed))} credits would be owed with the next step, and this node "
                f"serves {spell_credits(self.window)} ahead: it waits for a voucher of {spell_credits(micro)} in all."
            )
        elif self.on_trust:
            text = "This node trusts the account no further while its ledger keeper is silent: it waits for an escrow."
        elif now_s >= self.expires - HAND_IN_S:
            text = "The escrow for this session ends: it waits for one that lasts."
        else:
            held = spell_credits(max(self.escrow, self.gift))
            text = f"The escrow of {held} credits is used up: it waits for a raised one, of {spell_credits(cost)}."
        return Due(micro, text)

    def pay(self, voucher: Voucher) -> bool:
        """Take a voucher whose signature was verified; whether it is higher than those before.

        Raises:
            BadPayment: it is for another bill, or names another amount than its tokens cost.
        """
        if voucher.tab != self.tab:
            raise BadPayment("The voucher is for another session, node or span than this one.")
        due = self._price(Count(voucher.prefill, voucher.decode))
        if voucher.micro != due:
            raise BadPayment(f"The voucher says {voucher.micro} micro-credits; its tokens cost {due}.")
        if voucher.micro <= self.claimed:
            return False
        self.claimed = voucher.micro
        return True

    def raise_escrow(self, escrow: Escrow) -> bool:
        """Take an escrow whose signature was verified; whether it covers more, or for longer, than before.

        Raises:
            BadPayment: it is for another bill.
        """
        if escrow.tab != self.tab:
            raise BadPayment("The escrow is for another session, node or span than this one.")
        before = self.cover
        if escrow.gift:
            self.gift = max(self.gift, escrow.micro)
        else:
            self.escrow = max(self.escrow, escrow.micro)
        self.expires = max(self.expires, escrow.expires)
        return before != self.cover

    @property
    def _open_ended(self) -> bool:
        return self._free_beyond_trust and self.on_trust

    def _is_free(self, cost: int) -> bool:
        """Whether a step is served for nothing that would bring the bill to ``cost``."""
        return self._open_ended and cost > self._trusted()

    def _trusted(self) -> int:
        return 0 if self._trust is None else self._trust()

    def _limit(self, now_s: float) -> int:
        """What may have been served in all, whatever is claimed."""
        if self.on_trust:
            return self._trusted()
        if now_s >= self.expires - HAND_IN_S:
            return 0  # nothing new: what was served before is served
        held = max(self.escrow, self.gift)
        return held + min(self.window, held)  # accounts cost nothing: an escrow of next to nothing opens no window

    def _price(self, count: Count) -> int:
        return price(self._prices, self._parameters, count)
