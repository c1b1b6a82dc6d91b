"""A session's bill: what may be served beyond what is paid, to the micro-credit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.charter.economy import Prices
from gridllm.errors import BadPayment
from gridllm.identity.keys import Identity
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, TabKey, Voucher
from gridllm.node.counter.bill import HAND_IN_S, Bill
from gridllm.wire.messages import RowSlice
from tests.charters import ENTRY
from tests.ledgers import NOW, SESSION, Scribe, hex_of

PAYER, PAYEE = Identity.ephemeral(), Identity.ephemeral()
TAB = TabKey(SESSION, hex_of(PAYER), hex_of(PAYEE), ENTRY.root, 0, ENTRY.blocks)
PRICES = Prices()
PARAMETERS = 123_457
WINDOW = 10


def cost(prefill: int, decode: int) -> int:
    return PARAMETERS * (250 * prefill + 1000 * decode) // 10**6


def bill(trust: Callable[[], int] | None = None, **changes: Any) -> Bill:
    return Bill(TAB._replace(**changes), PRICES, PARAMETERS, WINDOW, trust=trust)


def voucher(prefill: int, decode: int, **changes: Any) -> Voucher:
    fields = {"prefill": prefill, "decode": decode, "micro": cost(prefill, decode)} | changes
    return Voucher(grid="a" * 64, issued=NOW, **TAB._asdict() | fields)


def escrow(micro: int, *, gift: bool = False, expires: int = NOW + 1800, **changes: Any) -> Escrow:
    fields = {"micro": micro, "gift": gift, "expires": expires, "keeper": "b" * 64} | changes
    return Escrow(grid="a" * 64, issued=NOW, **TAB._asdict() | fields)


def covered(micro: int = 10**9, **changes: Any) -> Bill:
    one = bill()
    one.raise_escrow(escrow(micro, **changes))
    return one


def row(tokens: int = 1, row: int = 0) -> list[RowSlice]:
    return [RowSlice(row, row, 0, tokens, 1)]


def serve(one: Bill, calls: int, now_s: float = NOW) -> int:
    """Decode as long as it is allowed; how many tokens that were."""
    for call in range(1, calls + 1):
        if not one.allows(row(), call + 10**6, now_s=now_s):
            return call - 1
        one.take(row(), call + 10**6)
    return calls


def test_a_window_is_served_ahead_and_not_a_token_more() -> None:
    one = covered()
    assert serve(one, 100) == WINDOW
    assert one.cost == cost(0, WINDOW) == one.window - 1, "a micro-credit for rounding"
    assert one.pay(voucher(0, 3))
    assert one.unpaid == cost(0, 10) - cost(0, 3)
    one = covered()
    one.pay(voucher(0, 3))
    assert serve(one, 100) == 13


@given(st.integers(1, 10**7), st.integers(1, 10**4), st.integers(1, 100), st.integers(0, 10**5))
def test_whole_tokens_fit_the_window_however_prices_round(size: int, decode: int, window: int, paid: int) -> None:
    prices = Prices(decode=decode)
    one = Bill(TAB, prices, size, window)
    one.raise_escrow(escrow(2**61))
    one.pay(voucher(0, paid, micro=size * decode * paid // 10**6))
    one.resume(Count(decode=paid + window - 1))
    assert one.allows(row(), 1, now_s=NOW)
    one.resume(Count(decode=paid + window))
    assert not one.allows(row(), 1, now_s=NOW) or size * decode < 2 * 10**6


def test_a_long_call_is_paid_ahead() -> None:
    one = covered()
    assert one.allows(row(37), 1, now_s=NOW), "the first costs what decoding does, 36 others what 9 more do"
    assert not one.allows(row(128), 1, now_s=NOW)
    due = one.owing(row(128), 1, now_s=NOW)
    assert due.micro == cost(127, 1) - one.window
    assert "waits for a voucher of" in due.text
    assert one.pay(voucher(91, 0))
    assert one.claimed >= due.micro
    assert one.allows(row(128), 1, now_s=NOW)
    assert not one.allows(row(129), 1, now_s=NOW)


def test_a_replay_costs_what_a_prompt_does() -> None:
    one = covered()
    assert one.allows(row(40), 1, replay=True, now_s=NOW)
    for _ in range(40):
        assert one.allows(row(1), 1, replay=True, now_s=NOW)
        one.take(row(1), 1, replay=True)
    assert one.meter.count == Count(prefill=40)
    assert not one.allows(row(1), 1, replay=True, now_s=NOW)


def test_an_escrow_bounds_what_is_served_whatever_is_claimed() -> None:
    one = covered(cost(0, 20))
    one.pay(voucher(0, 1000))
    assert serve(one, 1000) == 20 + WINDOW
    assert "The escrow of" in one.owing(row(), 5, now_s=NOW).text
    assert one.raise_escrow(escrow(cost(0, 25)))
    assert serve(one, 1000) == 5


def test_an_escrow_of_next_to_nothing_opens_no_window() -> None:
    """Or a credit, cut into dust among many accounts, would be worth a window each."""
    one = covered(1)
    assert serve(one, 1000) == 0
    one.raise_escrow(escrow(cost(0, 2)))
    assert serve(one, 1000) == 3  # twice the price of two, rounded down


def test_an_escrow_covers_nothing_new_once_it_ends() -> None:
    one = covered(expires=NOW + 100)
    one.pay(voucher(0, 100))
    assert one.allows(row(), 1, now_s=NOW + 100 - HAND_IN_S - 1)
    assert not one.allows(row(), 1, now_s=NOW + 100 - HAND_IN_S)
    assert "The escrow for this session ends" in one.owing(row(), 1, now_s=NOW + 100).text
    assert one.raise_escrow(escrow(10**9, expires=NOW + 5000))
    assert one.allows(row(), 1, now_s=NOW + 100)


def test_a_gift_bounds_what_is_served_and_nobody_pays_it() -> None:
    one = covered(cost(0, 5), gift=True)
    assert one.gifted and not one.on_trust
    one.pay(voucher(0, 1000))
    assert serve(one, 1000) == 5 + min(5, WINDOW)
    one.raise_escrow(escrow(cost(0, 7)))
    assert not one.gifted


def test_trust_bounds_it_as_it_stands_at_each_step() -> None:
    left = [cost(0, 7)]
    one = bill(lambda: left[0])
    assert one.on_trust
    one.pay(voucher(0, 1000))
    assert serve(one, 1000) == 7
    assert "trusts the account no further" in one.owing(row(), 1, now_s=NOW).text
    left[0] = cost(0, 9)
    assert serve(one, 1000) == 2
    assert serve(bill(), 1) == 0, "without escrow or trust nothing is served"


def test_vouchers_are_exact_monotone_and_of_this_bill() -> None:
    one = covered()
    assert one.pay(voucher(8, 3))
    assert not one.pay(voucher(8, 3))
    assert not one.pay(voucher(0, 3))
    assert one.claimed == cost(8, 3)
    for wrong in (cost(8, 4) + 1, cost(8, 4) - 1, 10**9):
        with pytest.raises(BadPayment, match="its tokens cost"):
            one.pay(voucher(8, 4, micro=wrong))
    other = {"session": "1e" * 16, "payer": "c" * 64, "payee": "d" * 64, "model": "e" * 64, "start": 1, "end": 5}
    for name, value in other.items():
        with pytest.raises(BadPayment, match="another session"):
            one.pay(voucher(8, 4, **{name: value}))
        with pytest.raises(BadPayment, match="another session"):
            one.raise_escrow(escrow(10**12, **{name: value}))
    assert (one.claimed, one.escrow) == (cost(8, 3), 10**9)


def test_an_escrow_that_is_lower_changes_nothing() -> None:
    one = covered(1000)
    assert not one.raise_escrow(escrow(999))
    assert not one.raise_escrow(escrow(1000, expires=NOW + 5))
    assert (one.escrow, one.expires) == (1000, NOW + 1800)


def test_what_was_overpaid_is_not_owed_back() -> None:
    one = covered()
    one.pay(voucher(0, 50))
    assert one.unpaid == 0
    assert one.owing(row(), 1, now_s=NOW).micro == one.claimed


def test_it_prices_as_the_keeper_does() -> None:
    scribe = Scribe()
    parameters = scribe.rules.parameters(ENTRY.root, 0, ENTRY.blocks)
    one = Bill(TAB, scribe.signed.charter.economy.prices, parameters, WINDOW)
    one.take(row(77), 1)
    one.take(row(1), 2)
    assert one.cost == scribe.price(76, 2)
    assert one.pay(scribe.voucher(PAYER, PAYEE, 76, 2).statement)  # type: ignore[arg-type]


steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 30), st.booleans(), st.booleans(), st.integers(0, 40)), max_size=60
)


@given(steps, st.integers(0, cost(0, 60)))
def test_never_more_is_served_than_the_rules_allow_and_nothing_is_negative(
    moves: list[tuple[int, int, bool, bool, int]], micro: int
) -> None:
    one = covered(micro)
    decoded = 0
    for call, (number, tokens, replay, pays, more) in enumerate(moves):
        slices = row(tokens, number)
        if one.allows(slices, call, replay=replay, now_s=NOW):
            one.take(slices, call, replay=replay)
            assert one.cost <= min(one.claimed, one.escrow) + one.window
        else:
            due = one.owing(slices, call, replay=replay, now_s=NOW)
            assert due.micro >= one.claimed
        if pays:
            decoded += more
            one.pay(voucher(0, decoded))
        assert one.unpaid >= 0 and one.cost >= 0 and type(one.cost) is int
