"""A hop's tab against the node's own bill: both count alike, whatever is cut, lost and replayed, and neither risks more
than the charter's window."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gridllm.charter.economy import Economy, Prices
from gridllm.errors import BadPayment
from gridllm.ledger.metering import Meter
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, TabKey, Voucher
from gridllm.node.counter.bill import Bill
from gridllm.wire.messages import RowSlice
from gridllm_client.frames import frames
from gridllm_client.tab import MOST_REPEATS, Tab, Tariff

KEY = TabKey("0f" * 16, "aa" * 32, "bb" * 32, "cc" * 32, 0, 4)
ON_TAB = KEY._asdict() | {"grid": "dd" * 32, "issued": 1}
NOW = 1_000.0


class Served:
    """One hop, both its sides, and a link between them on which frames may get lost."""

    def __init__(self, parameters: int = 123_457, window_tokens: int = 64, prices: Prices | None = None) -> None:
        economy = Economy(prices=prices or Prices(), window_tokens=window_tokens)
        self.tab = Tab(KEY, Tariff.of(economy, parameters))
        self.bill = Bill(KEY, economy.prices, parameters, window_tokens)
        self.reserve(2**50)
        self.lengths: list[int] = []
        self.step = 0
        self.paused = 0

    def reserve(self, micro: int) -> None:
        escrow = Escrow(**ON_TAB, micro=micro, gift=False, expires=int(NOW) + 900, keeper="ee" * 32)
        self.tab.reserved(escrow, b"escrow")
        self.bill.raise_escrow(escrow)

    def pay(self, count: Count | None) -> None:
        if count is None:
            return
        micro = self.tab.tariff.cost(count)
        assert self.tab.signed < micro <= self.tab.owed, "no voucher is in vain, none is for more than was sent"
        assert self.bill.pay(Voucher(**ON_TAB, prefill=count.prefill, decode=count.decode, micro=micro))
        self.tab.sent(b"voucher", count)

    def take(self, slices: list[RowSlice], *, replay: bool = False) -> None:
        """A frame reaches the node."""
        assert self.bill.allows(slices, self.step, replay=replay, now_s=NOW), "a client that pays in time is not paused"
        self.bill.take(slices, self.step, replay=replay)

    def call(self, slices: list[RowSlice], *, lost_from: int | None = None, chunk: int = 128) -> None:
        """A call; frames from the given one on get lost, and the chain is repaired."""
        self.lengths = self.lengths or [0] * 64
        self.step += 1
        before = list(self.lengths)
        for s in slices:
            self.lengths[s.row] = s.position + s.tokens
        self.tab.add(slices, self.step)
        self.pay(self.tab.ahead())
        hidden = torch.empty(sum(s.tokens for s in slices), 1)
        here = list(before)
        for number, (piece, _) in enumerate(frames(slices, before, hidden, chunk)):
            if number == lost_from:
                break
            self.take(piece)
            for s in piece:
                here[s.row] = s.position + s.tokens
        if lost_from is not None:
            self.repair(here)
        if self.tab.served():
            self.pay(self.tab.rest())
        assert 2 * self.bill.unpaid < self.bill.window or not self.bill.unpaid

    def repair(self, here: list[int]) -> None:
        self.bill.resume()
        self.tab.adopt(self.bill.meter.count)
        lacking = [(row, min(here[row], want), want) for row, want in enumerate(self.lengths)]
        self.tab.replayed(sum(want - have for _, have, want in lacking))
        self.pay(self.tab.ahead())
        for row, have, want in lacking:
            for at in range(have, want, 128):
                self.take([RowSlice(row, row, at, min(128, want - at), min(128, want - at))], replay=True)


def some_call(rng: random.Random, lengths: list[int], rows: int) -> list[RowSlice]:
    tokens = rng.choice([1, 1, 1, 2, 3, 130, 700])
    return [
        RowSlice(row, row, rng.choice([lengths[row], lengths[row] // 2]), tokens, 1)
        for row in rng.sample(range(rows), rng.randint(1, rows))
    ]


def losses_of(seed: int) -> list[int | None]:
    """Which frame of a call is the first to get lost, to be drawn from."""
    return [None] if seed % 3 == 0 else [None, None, 0, 1, 2]


@given(
    seed=st.integers(0, 2**32),
    rows=st.sampled_from([1, 2, 7, 64]),
    window=st.sampled_from([1, 2, 64, 1000]),
    parameters=st.sampled_from([1, 999, 123_457, 10**9]),
    prices=st.builds(Prices, decode=st.sampled_from([0, 1, 1000]), prefill=st.sampled_from([0, 1, 250, 4000])),
)
def test_both_sides_count_alike(seed: int, rows: int, window: int, parameters: int, prices: Prices):
    rng, hop, losses = random.Random(seed), Served(parameters, window, prices), losses_of(seed)
    for _ in range(12):
        slices = some_call(rng, hop.lengths or [0] * 64, rows)
        hop.call(slices, lost_from=rng.choice(losses), chunk=rng.choice([128, 512]))
        assert hop.tab.count == hop.bill.meter.count
    hop.pay(hop.tab.rest())
    assert hop.tab.owed == hop.bill.cost <= hop.bill.claimed == hop.tab.signed
    if losses == [None]:  # else a call may have been paid ahead that was then replayed, at another price
        assert hop.tab.owed == hop.tab.signed
    assert hop.tab.rest() is None


def test_decoding_takes_a_voucher_for_every_half_window():
    hop, signed = Served(parameters=1_000_000), 0
    for position in range(640):
        before = hop.tab.signed
        hop.call([RowSlice(0, 0, position, 1, 1)])
        signed += hop.tab.signed > before
    assert signed == 20


def test_a_long_prompt_is_paid_ahead_but_for_the_window():
    hop = Served()
    hop.tab.add([RowSlice(0, 0, 0, 4096, 1)], 1)
    ahead = hop.tab.ahead()
    assert ahead is not None
    left = hop.tab.owed - hop.tab.tariff.cost(ahead)
    token = hop.tab.tariff.cost(Count(decode=1))
    assert hop.tab.tariff.window - 2 * token - 2 <= left <= hop.tab.tariff.window


@pytest.mark.parametrize("claim", [Count(9, 7), Count(10, 6), Count(11, 5), Count(0, 2**40)])
def test_a_node_that_claims_more_than_it_was_sent_is_found_out(claim: Count):
    tab = Served().tab
    tab.add([RowSlice(0, 0, 0, 10, 1)], 1)
    for call in range(2, 7):
        tab.add([RowSlice(0, 0, 8 + call, 1, 1)], call)
    assert tab.count == (9, 6)
    with pytest.raises(BadPayment, match="was sent 9 and 6"):
        tab.adopt(claim)
    with pytest.raises(BadPayment, match="asks for"):
        tab.asked(tab.owed + 1)
    tab.adopt(Count(9, 5))
    assert tab.count == (9, 5)


def test_no_call_is_cheaper_for_being_padded_or_called_a_replay():
    """Each call is a pass through the weights, whatever is in it and whatever it is called."""
    plain, padded, called = Meter(), Meter(), Meter()
    for call in range(1, 51):
        plain.add([RowSlice(0, 0, call, 1, 1)], call)
        padded.add([RowSlice(0, 0, call, 2, 1)], call)
        called.add([RowSlice(0, 0, call, 1, 1)], call, replay=True)
    assert plain.count == (0, 50)
    assert padded.count == (50, 50)
    assert called.count == (2, 48), "the calls that a repair sends again are two at most"
    pieces = Meter()
    pieces.add([RowSlice(0, 0, 0, 10, 1)], 1)
    for position in range(10, 60):
        pieces.add([RowSlice(0, 0, position, 1, 1)], 1)
    assert pieces.count == (9, 51), "one call for ever, a token at a time"
    called.adopt(called.count)
    called.add([RowSlice(0, 0, 0, 50, 1)], 51, replay=True)
    assert called.count == (52, 48)


def test_a_node_that_begins_anew_goes_on_from_its_voucher():
    """A voucher ahead of a call that then got lost names more than the client counts afterwards."""
    hop = Served()
    hop.tab.add([RowSlice(0, 0, 0, 4096, 1)], 1)
    ahead = hop.tab.ahead()
    hop.pay(ahead)
    hop.tab.adopt(Count())
    assert ahead is not None
    hop.tab.adopt(ahead)
    assert hop.tab.count == ahead


def test_a_node_that_waits_is_paid_what_was_sent_and_no_voucher_twice():
    hop = Served()
    hop.tab.add([RowSlice(0, 0, 0, 40, 1)], 1)
    count = hop.tab.asked(1)
    assert count == (39, 1)
    hop.pay(count)
    assert hop.tab.asked(hop.tab.owed) is None


def test_a_node_that_asks_for_what_it_has_is_left_unless_there_is_news():
    served = Served()
    served.call([RowSlice(0, 0, 0, 1, 1)])
    tab = served.tab
    for news in (tab.served, lambda: served.reserve(2**51), lambda: tab.sent(b"voucher", tab.count)):
        for _ in range(MOST_REPEATS):
            assert tab.asked(tab.signed) is None
        news()
    for _ in range(MOST_REPEATS):
        tab.asked(0)
    with pytest.raises(BadPayment, match="again and again"):
        tab.asked(0)


@pytest.mark.parametrize(
    ("escrow", "gift", "signed", "paid"),
    [(0, 0, 500, 500), (900, 0, 500, 500), (0, 900, 500, 0), (0, 400, 500, 100), (450, 400, 500, 450)],
)
def test_what_an_account_is_charged(escrow: int, gift: int, signed: int, paid: int):
    """As the keeper takes a voucher: what a gift covers is nobody's debt, the rest is reserved anew."""
    tab = Served().tab
    tab.escrow, tab.gift, tab.signed = escrow, gift, signed
    assert tab.paid == paid
