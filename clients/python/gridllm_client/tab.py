"""One hop's tab: what its node metered as this side counts it, what was signed, what was set aside. Pure.

Nothing is ever signed beyond the client's own count, which grows when a call is sent and when rows are replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gridllm.charter.economy import PARAMETERS, Economy, Prices
from gridllm.errors import BadPayment
from gridllm.ids import PeerId
from gridllm.ledger.metering import Meter
from gridllm.ledger.prices import Count, price, window_price
from gridllm.ledger.statements import Escrow, TabKey
from gridllm.quantities import spell_credits
from gridllm.wire.messages import RowSlice

MOST_REPEATS: Final = 8  # of a node that asks for what was signed; an honest one's question may cross with a voucher


@dataclass(frozen=True, slots=True)
class Tariff:
    """What tokens through one span cost."""

    prices: Prices
    parameters: int  # in the span
    window: int  # micro-credits that the node serves beyond the last voucher

    @staticmethod
    def of(economy: Economy, parameters: int) -> Tariff:
        """The charter's for a span of so many parameters."""
        return Tariff(economy.prices, parameters, window_price(economy.prices, parameters, economy.window_tokens))

    def cost(self, count: Count) -> int:
        """Micro-credits for ``count`` tokens."""
        return price(self.prices, self.parameters, count)


class Bill(NamedTuple):
    """What one node served in one session, and what was signed for it."""

    peer: PeerId
    start: int  # first block
    end: int  # one past the last
    prefill: int  # tokens metered
    decode: int
    micro: int  # micro-credits that the node can claim; of a newcomer's gift nobody pays


class Tab:
    """What one hop is owed in one session."""

    def __init__(self, key: TabKey, tariff: Tariff) -> None:
        self.key = key
        self.tariff = tariff
        self.owed = 0
        """Micro-credits for all tokens, those of the pending call included."""
        self.signed = 0
        """Micro-credits of the highest voucher signed."""
        self.escrow = 0
        """Set aside, micro-credits."""
        self.gift = 0
        """The same, of a newcomer's allowance, which nobody pays."""
        self.expires = 0
        """Unix time the escrow ends; 0: there is none, the node serves on trust."""
        self.document = b""
        """The latest escrow, as it is shown to the node."""
        self.voucher = b""
        """The highest voucher."""
        self._meter = Meter()
        self._served = Count()  # of it, what came back
        self._signed = Count()  # what the highest voucher is for
        self._repeats = 0  # that it was asked for, since there was news

    @property
    def count(self) -> Count:
        """Tokens, those of the pending call included."""
        return self._meter.count

    @property
    def covered(self) -> int:
        """Micro-credits up to which the node serves without trust."""
        return max(self.escrow, self.gift)

    @property
    def paid(self) -> int:
        """Micro-credits that the vouchers signed so far cost the account, as its keeper will say."""
        return min(self.signed, max(self.escrow, self.signed - self.gift))

    @property
    def unanswered(self) -> int:
        """Prompt tokens, replays included, that it counted and nothing came back for."""
        return self._meter.count.prefill - self._served.prefill

    def reserved(self, escrow: Escrow, raw: bytes) -> None:
        """The keeper set more aside, or for longer."""
        self._repeats = 0
        self.document = raw
        if escrow.gift:
            self.gift = max(self.gift, escrow.micro)
        else:
            self.escrow = max(self.escrow, escrow.micro)
        self.expires = max(self.expires, escrow.expires)

    def add(self, slices: Sequence[RowSlice], call: int) -> None:
        """A call is about to be sent."""
        self._meter.add(slices, call)
        self._priced()

    def replayed(self, tokens: int) -> None:
        """Tokens are about to be sent again by whoever is upstream."""
        self._meter.replayed(tokens)
        self._priced()

    def served(self) -> bool:
        """All that was sent came back; whether to sign for it, since half the window is owed."""
        self._repeats = 0
        self._served = self._meter.count
        return 2 * (self.owed - self.signed) >= self.tariff.window

    def adopt(self, count: Count) -> None:
        """Take over the node's lower count after a repair: of a lost call it saw some or nothing.

        Raises:
            BadPayment: the node claims tokens that nobody sent it.
        """
        own = self._meter.count
        more = count.decode > own.decode or count.prefill > own.prefill
        if more and count != self._signed:  # a node that begins anew goes on from the voucher it kept
            raise BadPayment(
                f"the node claims {count.prefill} prompt and {count.decode} decoded tokens, and was sent "
                f"{own.prefill} and {own.decode}"
            )
        self._meter.adopt(count)
        self._priced()
        self._served = Count(*map(min, self._served, count))

    def ahead(self) -> Count | None:
        """What to sign before the pending call goes out, so that the node need not pause; None: nothing.

        All that came back, and of the pending call what exceeds the window.
        """
        window = self.tariff.window
        if self.owed - self.signed <= window:
            return None
        own = self._meter.count
        prefill, decode = own.prefill - self._served.prefill, own.decode - self._served.decode
        late = self._fitting(decode, window, self.tariff.prices.decode)
        window = max(0, window - self.tariff.cost(Count(decode=late)) - 1)  # 1: that is rounded down
        early = self._fitting(prefill, window, self.tariff.prices.prefill)
        return Count(own.prefill - early, own.decode - late)

    def rest(self) -> Count | None:
        """What to sign for all that came back; None: that is signed for."""
        return self._served if self.tariff.cost(self._served) > self.signed else None

    def asked(self, micro: int) -> Count | None:
        """What to sign for a node that waits for a voucher of at least ``micro``; None: it has one, or it is underway.

        Raises:
            BadPayment: the node asks for more than the session's tokens cost, or again and again for what it has.
        """
        if micro <= self.signed:
            self._repeats += 1
            if self._repeats > MOST_REPEATS:
                raise BadPayment("the node asks again and again for a voucher that it was sent")
            return None
        if micro > self.owed:
            raise BadPayment(
                f"the node asks for {spell_credits(micro)} credits, and was sent tokens for {spell_credits(self.owed)}"
            )
        return self._meter.count

    def sent(self, voucher: bytes, count: Count) -> None:
        """The node has a voucher for ``count``."""
        self._repeats = 0
        self.voucher, self._signed, self.signed = voucher, count, self.tariff.cost(count)

    def _fitting(self, tokens: int, micro: int, each: int) -> int:
        """How many of ``tokens`` at the price ``each`` cost ``micro`` at most."""
        return min(tokens, micro * PARAMETERS // (self.tariff.parameters * each)) if each else tokens

    def _priced(self) -> None:
        self.owed = self.tariff.cost(self._meter.count)
