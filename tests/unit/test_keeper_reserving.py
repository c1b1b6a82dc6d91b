"""What a home keeper sets aside, and for whom."""

from __future__ import annotations

import re

import pytest

from gridllm.errors import BadPayment, Insufficient, Malformed, NotHome
from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account
from gridllm.ledger.paper import verify_pass
from gridllm_bootstrap.keeping.reserving import access_pass, allowance_left, day_of, reserve
from tests.charters import MAINTAINERS
from tests.ledgers import NOW, hex_of, homed
from tests.unit.keeper_books import Counter

CREDIT = 10_000_000


def test_all_hops_are_reserved_or_none() -> None:
    counter = Counter(CREDIT)
    wishes = [counter.wish(4_000_000, start=0, end=4), counter.wish(5_000_000, start=4, end=8)]
    assert [one.micro for one in counter.reserve(*wishes)] == [4_000_000, 5_000_000]
    assert counter.available == 1_000_000
    length = len(counter.books.log)
    with pytest.raises(Insufficient):
        counter.reserve(*(counter.wish(600_000, session="aa" * 16, start=b, end=b + 1) for b in range(2)))
    assert len(counter.books.log) == length
    counter.check_books()


def test_a_wish_raises_what_is_there() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(4_000_000))
    (raised,) = counter.reserve(counter.wish(CREDIT))
    assert raised.micro == CREDIT
    assert counter.available == 0
    (same,) = counter.reserve(counter.wish(5))  # never lowers
    assert same.micro == CREDIT


def test_an_escrow_is_raised_by_a_step_or_to_all_there_is() -> None:
    counter = Counter(CREDIT)
    step = counter.scribe.price(0, 64) // 16  # four tokens of the window
    first, *raised = [counter.reserve(counter.wish(1_000_000 + more))[0].micro for more in range(5)]
    assert (first, set(raised)) == (1_000_000, {1_000_000 + step})
    length = len(counter.books.log)
    for wished in range(1_000_000, 1_000_000 + 2 * step):
        counter.reserve(counter.wish(wished))
    assert len(counter.books.log) == length + 1
    last = counter.reserve(counter.wish(CREDIT - 5))[0].micro
    assert [counter.reserve(counter.wish(last + more))[0].micro - last for more in (1, 5)] == [1, 5]  # no step is left
    counter.check_books()


def test_a_gift_is_raised_by_a_step_too() -> None:
    counter = Counter(newcomers="allowance", allowance=3_000_000)
    counter.reserve(counter.wish(1_000_000))
    length = len(counter.books.log)
    for more in range(1, 5):
        counter.reserve(counter.wish(1_000_000 + more))
    assert len(counter.books.log) == length + 1
    assert counter.tab.gift == 1_000_000 + counter.scribe.price(0, 64) // 16
    (last,) = counter.reserve(counter.wish(2_999_999))
    assert last.micro == 2_999_999
    assert counter.reserve(counter.wish(3_000_000))[0].micro == 3_000_000
    counter.check_books()


def test_asking_again_prolongs_only_what_runs_out() -> None:
    counter = Counter(CREDIT)
    (first,) = counter.reserve(counter.wish(4_000_000))
    assert first.expires == NOW + 1800
    length = len(counter.books.log)
    counter.books.now_s += 60
    (again,) = counter.reserve(counter.wish(4_000_000))
    assert again.expires == first.expires
    assert len(counter.books.log) == length  # nobody fills the books by asking
    counter.books.now_s += 1000
    (longer,) = counter.reserve(counter.wish(4_000_000))
    assert longer.expires == counter.books.now_s + 1800
    assert len(counter.books.log) == length + 1


def test_an_ended_escrow_needs_the_balance_again() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(CREDIT))
    counter.books.now_s += 1800
    counter.reserve(counter.wish(1_000_000, session="aa" * 16))
    with pytest.raises(Insufficient):
        counter.reserve(counter.wish(1))  # would set all of it aside once more
    counter.check_books()


def test_a_refusal_says_what_there_is_and_what_to_do() -> None:
    counter = Counter(2_500_000)
    counter.reserve(counter.wish(1_000_000))
    with pytest.raises(Insufficient) as refused:
        counter.reserve(counter.wish(2_000_001, session="aa" * 16))
    assert str(refused.value) == (
        "This needs 2.000001 credits set aside, and the account has 1.5 credits available (1 more are in escrow); "
        "serve blocks to earn some, with: gridllm serve — or ask for a transfer."
    )


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"micro": 0}, Malformed, "of 0"),
        ({"model": "cd" * 32}, BadPayment, "no model"),
        ({"start": 3, "end": 3}, BadPayment, "no span"),
        ({"end": 9}, BadPayment, "no span"),
        ({"session": "x" * 32}, Malformed, "pattern"),
        ({"payee": "g" * 64}, Malformed, "pattern"),
    ],
)
def test_wishes_that_cannot_be(change: dict[str, object], kind: type[Exception], text: str) -> None:
    counter = Counter(CREDIT)
    with pytest.raises(kind, match=re.escape(text)):
        counter.reserve(counter.wish(**{"micro": 5} | change))  # type: ignore[arg-type]


def test_nobody_pays_itself_or_one_bill_twice_at_once() -> None:
    counter = Counter(CREDIT)
    with pytest.raises(Malformed, match="one account"):
        counter.reserve(counter.wish(5, payee=hex_of(counter.payer)))
    with pytest.raises(Malformed, match="sum"):
        counter.reserve(counter.wish(5), counter.wish(6))


def test_a_closed_bill_is_not_reserved_for() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(5))
    counter.take(counter.scribe.release(counter.payer, counter.node))
    with pytest.raises(BadPayment, match="another session"):
        counter.reserve(counter.wish(6))


def test_another_keepers_account_is_sent_there() -> None:
    counter = Counter(CREDIT)
    elsewhere = next(hex_of(one) for one in MAINTAINERS if one != counter.keeper)
    stranger = hex_of(homed(counter.scribe.signed, elsewhere))
    with pytest.raises(NotHome, match=elsewhere[:16]):
        reserve(counter.clerk, counter.books, stranger, [counter.wish(5)], NOW)
    with pytest.raises(NotHome, match=elsewhere[:16]):
        access_pass(counter.clerk, counter.keeper, stranger, Account(), 0, NOW)


def test_a_newcomers_allowance_is_given_each_day_and_costs_nobody() -> None:
    counter = Counter(newcomers="allowance", allowance=3_000_000)
    (gift,) = counter.reserve(counter.wish(2_000_000))
    assert gift.gift
    assert counter.voucher(1).code == "accepted"  # counted, and not paid
    assert (counter.earned, counter.tab.claimed) == (0, counter.price(1))
    with pytest.raises(Insufficient, match="1 of today's allowance is left"):
        counter.reserve(counter.wish(1_000_001, session="aa" * 16))
    assert [one.micro for one in counter.reserve(counter.wish(3_000_000))] == [3_000_000]  # raised to all of it
    with pytest.raises(Insufficient, match="has 0 credits available; serve"):
        counter.reserve(counter.wish(1, session="aa" * 16))
    counter.books.now_s += 86400
    assert counter.reserve(counter.wish(1, session="aa" * 16))[0].gift
    counter.check_books()


def test_what_a_gift_covers_is_never_owed() -> None:
    counter = Counter(newcomers="allowance", allowance=3_000_000)
    counter.reserve(counter.wish(3_000_000))
    counter.take(counter.scribe.grant(counter.payer, CREDIT))
    assert counter.voucher(5).code == "accepted"
    assert counter.earned == counter.price(5) - 3_000_000
    counter.check_books()


def test_a_bill_that_is_paid_for_is_not_given_away_half_way() -> None:
    counter = Counter(1_000_000, newcomers="allowance", allowance=3_000_000)
    counter.reserve(counter.wish(1_000_000))
    with pytest.raises(Insufficient):
        counter.reserve(counter.wish(2_000_000))


def test_who_can_pay_is_given_nothing() -> None:
    counter = Counter(CREDIT, newcomers="allowance", allowance=3_000_000)
    assert not counter.reserve(counter.wish(2_000_000))[0].gift
    assert allowance_left(Counter().clerk, 0) == 0  # a grid without one


def test_a_pass_says_how_the_account_stands() -> None:
    counter = Counter()
    account = Account(granted=7, earned=10, spent=25, received=20)
    raw = access_pass(counter.clerk, counter.keeper, hex_of(counter.payer), account, 2, NOW + 0.9)
    said = verify_pass(raw, counter.scribe.signed)
    assert (said.contribution, said.available, said.issued, said.expires) == (-15, 10, NOW, NOW + 600)
    assert day_of(86400.5) == 1
    assert Identity.ephemeral().peer not in raw.decode()
