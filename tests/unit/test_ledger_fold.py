"""The fold: the same balances whatever order statements come in and however often; only grants make credit."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account, Ledger, Tab, apply
from gridllm.ledger.paper import Entry, sign
from gridllm.ledger.statements import OnTab, Voucher
from tests.charters import MAINTAINERS
from tests.ledger_worlds import TABS, entries, minted
from tests.ledgers import NOW, SESSION, STARTER, Scribe, entry, hex_of

SCRIBE = Scribe()
PAYER, NODE, OTHER = (Identity.ephemeral() for _ in range(3))


def fold(*coming: Entry) -> Ledger:
    books = Ledger()
    for one in coming:
        apply(books, one, STARTER)
    return books


def tab_of(one: Entry) -> Tab:
    """The tab after this entry alone."""
    assert isinstance(one.statement, OnTab)
    return fold(one).tabs[one.statement.tab]


@given(st.data(), st.lists(entries, max_size=30))
def test_order_and_repetition_change_nothing(data: st.DataObject, coming: list[Entry]) -> None:
    again = data.draw(st.lists(st.sampled_from(coming), max_size=10) if coming else st.just([]))
    shuffled = data.draw(st.permutations([*coming, *again]))
    assert fold(*shuffled) == fold(*coming)


@given(st.lists(entries, max_size=30))
def test_apply_says_whether_anything_changed(coming: list[Entry]) -> None:
    books = Ledger()
    for one in coming:
        if isinstance(one.statement, OnTab):
            books.tab(one.statement.tab)  # so that looking at a tab is no change
        before = copy.deepcopy(books)
        assert apply(books, one, STARTER) == (books != before)
        assert not apply(books, one, STARTER)


@given(st.lists(entries, max_size=40))
def test_only_grants_and_starters_make_credit(coming: list[Entry]) -> None:
    books = fold(*coming)
    assert sum(one.balance for one in books.accounts.values()) == minted(books, coming)
    assert sum(one.earned - one.spent for one in books.accounts.values()) == 0
    assert sum(one.contribution for one in books.accounts.values()) <= 0


@given(st.lists(entries, max_size=40), st.integers(NOW - 4, NOW + 4))
def test_no_tab_pays_or_holds_more_than_its_escrow(coming: list[Entry], now: int) -> None:
    books = fold(*coming)
    for key in TABS:
        tab = books.tab(key)
        assert 0 <= tab.paid <= tab.escrow
        assert 0 <= tab.held(now) <= tab.escrow - tab.paid


def test_the_highest_voucher_counts_and_pays_up_to_its_escrow() -> None:
    low, high = SCRIBE.voucher(PAYER, NODE, 100, 5), SCRIBE.voucher(PAYER, NODE, 100, 50)
    due = SCRIBE.price(100, 50)
    for coming in ([low, high], [high, low], [high, high]):
        books = fold(*coming, SCRIBE.escrow(PAYER, NODE, due - 1))
        assert books.accounts[hex_of(PAYER)] == Account(spent=due - 1)
        assert books.accounts[hex_of(NODE)] == Account(earned=due - 1)
        (tab,) = books.tabs.values()
        assert (tab.claimed, tab.prefill, tab.decode, tab.paid) == (due, 100, 50, due - 1)
    raised = fold(low, high, SCRIBE.escrow(PAYER, NODE, due - 1), SCRIBE.escrow(PAYER, NODE, due + 9))
    assert raised.accounts[hex_of(NODE)].earned == due


def test_a_voucher_without_escrow_pays_nothing() -> None:
    books = fold(SCRIBE.voucher(PAYER, NODE, 100, 5))
    assert books.accounts == {}
    assert next(iter(books.tabs.values())).claimed == SCRIBE.price(100, 5)


def test_of_two_spellings_of_one_amount_the_larger_count_stays() -> None:
    four, one = SCRIBE.voucher(PAYER, NODE, 4, 0), SCRIBE.voucher(PAYER, NODE, 0, 1)
    assert isinstance(four.statement, Voucher) and isinstance(one.statement, Voucher)
    assert four.statement.micro == one.statement.micro
    assert fold(four, one) == fold(one, four)
    assert next(iter(fold(one, four).tabs.values())).prefill == 4


def test_tabs_of_other_sessions_nodes_and_spans_are_apart() -> None:
    vouchers = [
        SCRIBE.voucher(PAYER, NODE, 0, 1),
        SCRIBE.voucher(PAYER, NODE, 0, 1, session="ab" * 16),
        SCRIBE.voucher(PAYER, OTHER, 0, 1),
        SCRIBE.voucher(PAYER, NODE, 0, 1, start=2),
    ]
    books = fold(*vouchers, SCRIBE.escrow(PAYER, NODE, 10**9))
    assert len(books.tabs) == 4
    assert books.accounts[hex_of(PAYER)].spent == SCRIBE.price(0, 1)


def test_a_gift_bounds_service_and_nobody_pays_it() -> None:
    books = fold(SCRIBE.escrow(PAYER, NODE, 10**9, gift=True), SCRIBE.voucher(PAYER, NODE, 10, 10))
    (tab,) = books.tabs.values()
    assert (tab.gift, tab.escrow, tab.paid, tab.held(NOW)) == (10**9, 0, 0, 0)
    assert books.accounts == {}


def test_escrow_is_held_until_paid_released_or_expired() -> None:
    escrow = SCRIBE.escrow(PAYER, NODE, 10**9, expires=NOW + 10)
    assert tab_of(escrow).held(NOW + 9.9) == 10**9
    assert tab_of(escrow).held(NOW + 10) == 0
    paid = fold(escrow, SCRIBE.voucher(PAYER, NODE, 7, 3))
    assert paid.held(hex_of(PAYER), NOW) == 10**9 - SCRIBE.price(7, 3)
    released = fold(escrow, SCRIBE.voucher(PAYER, NODE, 7, 3), SCRIBE.release(PAYER, NODE))
    assert released.held(hex_of(PAYER), NOW) == 0
    assert released.accounts[hex_of(NODE)].earned == SCRIBE.price(7, 3)


def test_a_later_escrow_raises_and_prolongs_and_never_lowers() -> None:
    first = SCRIBE.escrow(PAYER, NODE, 500, expires=NOW + 10)
    lower = SCRIBE.escrow(PAYER, NODE, 300, expires=NOW + 99)
    (tab,) = fold(first, lower).tabs.values()
    assert (tab.escrow, tab.expires) == (500, NOW + 99)


def test_a_starter_comes_once_however_often_the_certificate_is_renewed() -> None:
    books = fold(SCRIBE.enrolment(NODE), SCRIBE.enrolment(NODE, model="cd" * 32), SCRIBE.enrolment(OTHER))
    assert {key: one.granted for key, one in books.accounts.items()} == {hex_of(NODE): STARTER, hex_of(OTHER): STARTER}


def test_a_grant_counts_once_whoever_signed_it() -> None:
    grant = SCRIBE.grant(PAYER, 500)
    others = entry(sign(grant.statement, *MAINTAINERS[1:]), grant.statement)
    assert others.raw != grant.raw
    books = fold(grant, others, SCRIBE.grant(PAYER, 500))  # the last is another, by its serial
    assert books.accounts[hex_of(PAYER)] == Account(granted=1000)


def test_credit_that_is_sent_back_contributes_no_more() -> None:
    """One purse that goes round and round would make any contribution."""
    account = Account(granted=3, earned=100, sent=90)
    assert (account.balance, account.contribution) == (13, 10)
    assert Account(received=100, earned=100, sent=100).contribution == 0, "and cannot be topped up by what others send"
    assert Account(earned=100, spent=30).contribution == 70
    assert Account(granted=50, spent=30).contribution == -30


def test_a_transfer_moves_credit_and_is_no_contribution() -> None:
    sent = SCRIBE.transfer(PAYER, OTHER, 300)
    books = fold(SCRIBE.grant(PAYER, 500), sent, sent)
    payer, other = books.accounts[hex_of(PAYER)], books.accounts[hex_of(OTHER)]
    assert (payer.balance, other.balance) == (200, 300)
    assert (payer.contribution, other.contribution) == (-300, 0)


def test_a_ring_gains_nothing() -> None:
    ring = [PAYER, NODE, OTHER]
    coming = []
    for at in range(30):
        pair = {"session": f"{at:032x}"}
        payer, payee = ring[at % 3], ring[(at + 1) % 3]
        coming += [SCRIBE.escrow(payer, payee, 10**12, **pair), SCRIBE.voucher(payer, payee, 99, 99, **pair)]
    books = fold(*coming)
    assert {one.contribution for one in books.accounts.values()} == {0}
    assert {one.balance for one in books.accounts.values()} == {0}
    assert SESSION not in {key.session for key in books.tabs}
