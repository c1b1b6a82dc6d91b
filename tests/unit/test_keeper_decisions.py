"""What a keeper takes into its books, statement by statement."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.charter.notices import Revocation
from gridllm.errors import Refusal
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature, only_signed_by
from gridllm.ledger.statements import Escrow, Voucher
from gridllm_bootstrap.keeping.decisions import Standing
from tests.charters import MAINTAINERS
from tests.ledgers import NOW, STARTER, hex_of, homed
from tests.unit.keeper_books import Counter

CREDIT = 50_000_000


def revoked(counter: Counter, *, until: int) -> Standing:
    notice = Revocation(grid=counter.scribe.signed.grid, peer=counter.node.peer, why="It lied", issued=NOW, until=until)
    return Standing(required=True, revoked={counter.node.peer: notice})


def test_a_voucher_within_its_escrow_is_paid() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(10_000_000))
    assert counter.available == CREDIT - 10_000_000
    assert counter.voucher(5).code == "accepted"
    price = counter.price(5)
    assert counter.earned == price
    assert counter.available == CREDIT - 10_000_000  # the rest of the escrow stays set aside
    counter.check_books()


def test_what_is_known_already_is_said_and_changes_nothing() -> None:
    counter = Counter(CREDIT)
    assert counter.voucher(5).code == "accepted"
    before = len(counter.books.log)
    assert counter.voucher(5).code == "known"
    assert counter.voucher(4).code == "known"
    assert len(counter.books.log) == before


def test_a_voucher_beyond_its_escrow_is_covered_from_the_balance() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(1_000_000))
    assert counter.voucher(5).code == "accepted"
    assert counter.earned == counter.price(5) > 1_000_000
    kinds = [type(entry.statement) for entry in counter.books.log[-2:]]
    assert kinds == [Escrow, Voucher]  # the keeper's own word first: the voucher alone would pay less
    assert counter.available == CREDIT - counter.earned
    counter.check_books()


def test_what_the_balance_does_not_cover_waits_and_is_paid_once_it_does() -> None:
    counter = Counter()
    price = counter.price(5)
    counter.take(counter.scribe.grant(counter.payer, price - 7))
    outcome = counter.voucher(5)
    assert outcome.code == "later"
    assert "credits are paid" in outcome.text
    assert counter.earned == price - 7
    length = len(counter.books.log)
    assert counter.voucher(5).code == "later"  # nothing new: not written again
    assert len(counter.books.log) == length
    counter.take(counter.scribe.grant(counter.payer, 100))
    assert counter.voucher(5).code == "accepted"
    assert counter.earned == price
    assert counter.available == 93
    assert counter.voucher(5).code == "known"
    counter.check_books()


def test_a_voucher_of_an_account_without_anything_is_not_written_down() -> None:
    counter = Counter()
    length = len(counter.books.log)
    outcome = counter.voucher(5)
    assert outcome.code == "later"
    assert "0 are there for it" in outcome.text
    assert len(counter.books.log) == length


def test_an_escrow_that_ended_and_was_spent_elsewhere_pays_nobody_twice() -> None:
    counter = Counter(10_000_000)
    counter.reserve(counter.wish(10_000_000))
    counter.books.now_s += 3600
    counter.reserve(counter.wish(9_500_000, session="aa" * 16))
    assert counter.voucher(5).code == "later"
    assert counter.earned == 0
    counter.books.now_s += 3600  # the other ended, too, and nobody claimed it
    assert counter.voucher(5).code == "accepted"
    counter.check_books()


def test_a_released_tab_still_takes_a_voucher_from_what_is_free() -> None:
    counter = Counter(CREDIT)
    counter.reserve(counter.wish(CREDIT))
    assert counter.voucher(2).code == "accepted"
    assert counter.available == 0
    assert counter.take(counter.scribe.release(counter.payer, counter.node)).code == "accepted"
    assert counter.available == CREDIT - counter.earned
    assert counter.take(counter.scribe.release(counter.payer, counter.node)).code == "known"
    assert counter.voucher(3).code == "accepted"
    counter.check_books()


def test_a_release_of_nothing_is_not_written_down() -> None:
    counter = Counter()
    assert counter.take(counter.scribe.release(counter.payer, counter.node)).code == "known"
    counter.check_books()


def test_only_admitted_nodes_are_paid_where_admission_is_asked_for() -> None:
    counter, other = Counter(CREDIT), Identity.ephemeral()
    voucher = counter.scribe.voucher(counter.payer, other, decode=1)
    outcome = counter.take(voucher)
    assert outcome.code == "later"
    assert "no admission certificate" in outcome.text
    counter.standing = Standing(required=False)  # an open grid
    assert counter.take(voucher).code == "accepted"


def test_a_revoked_node_is_not_paid_until_it_may_come_back() -> None:
    counter = Counter(CREDIT)
    counter.standing = revoked(counter, until=NOW + 100)
    outcome = counter.voucher(1)
    assert outcome.code == "later"
    assert "It lied" in outcome.text
    counter.books.now_s += 100
    assert counter.voucher(1).code == "accepted"


def test_accounts_of_another_keeper_are_sent_there() -> None:
    counter = Counter(CREDIT)
    elsewhere = next(hex_of(one) for one in MAINTAINERS if one != counter.keeper)
    stranger = homed(counter.scribe.signed, elsewhere)
    for entry in (
        counter.scribe.voucher(stranger, counter.node, decode=1),
        counter.scribe.release(stranger, counter.node),
        counter.scribe.transfer(stranger, counter.node, 5),
    ):
        outcome = counter.take(entry)
        assert outcome.code == "not_home"
        assert elsewhere[:16] in outcome.text


def test_what_breaks_a_rule_is_refused_by_name() -> None:
    counter = Counter(CREDIT)
    assert "its tokens cost" in counter.voucher(5, micro=1).text
    assert counter.voucher(5, micro=1).code == "bad_payment"
    assert "not handed in" in counter.take(counter.scribe.escrow(counter.payer, counter.node, 5)).text
    assert "another grid" in counter.voucher(5, grid="ab" * 32).text
    assert "no model" in counter.voucher(5, model="cd" * 32).text
    forged = counter.scribe.voucher(counter.payer, counter.node, decode=5)
    assert counter.take(forged._replace(raw=forged.raw.replace(b'"sig":"', b'"sig":"A', 1))).code == "bad_payment"
    assert counter.take(forged._replace(raw=b"\xff\x00")).code == "bad_payment"


def test_a_certificate_enrols_once_whatever_its_issue() -> None:
    counter, node = Counter(), Identity.ephemeral()
    assert counter.take(counter.scribe.enrolment(node)).code == "accepted"
    assert counter.take(counter.scribe.enrolment(node, dtype="bfloat16")).code == "known"
    assert counter.books.account(hex_of(node)).granted == STARTER


def test_a_certificate_that_ran_out_or_was_revoked_enrols_nobody() -> None:
    counter = Counter()
    counter.books.seen.clear()
    counter.standing = revoked(counter, until=NOW + 100)
    assert counter.take(counter.scribe.enrolment(counter.node)).code == "revoked"
    counter.standing = Standing(required=True)
    counter.books.now_s += 2 * 86400
    assert "expired" in counter.take(counter.scribe.enrolment(counter.node)).text
    assert "not for serving" in counter.take(counter.scribe.enrolment(counter.node, roles=["relay"])).text


def test_a_grant_counts_once() -> None:
    counter = Counter()
    grant = counter.scribe.grant(counter.payer, 5)
    assert [counter.take(grant).code for _ in range(2)] == ["accepted", "known"]
    assert counter.available == 5


def test_a_transfer_needs_what_it_moves_and_gets_the_keepers_signature() -> None:
    counter, friend = Counter(100), Identity.ephemeral()
    much = counter.take(counter.scribe.transfer(counter.payer, friend, 101))
    assert much.code == "insufficient"
    assert "0.000101" in much.text and "0.0001 credits available" in much.text and "gridllm serve" in much.text
    transfer = counter.scribe.transfer(counter.payer, friend, 60)
    alone = transfer._replace(raw=only_signed_by(transfer.raw, [hex_of(counter.payer)]))
    assert counter.take(alone).code == "accepted"
    assert counter.scribe.rules.read(counter.books.log[-1].raw, counter.clerk.log).id == transfer.id
    assert counter.take(alone).code == "known"  # not insufficient
    assert (counter.available, counter.books.account(hex_of(friend)).balance) == (40, 60)
    counter.check_books()


def test_signatures_that_nobody_asked_for_stay_out_of_the_books() -> None:
    counter = Counter(CREDIT)
    voucher = counter.scribe.voucher(counter.payer, counter.node, decode=1)
    bloated = voucher.raw
    for _ in range(20):
        bloated = add_signature(bloated, Identity.ephemeral())
    assert counter.take(voucher._replace(raw=bloated)).code == "accepted"
    assert len(counter.books.log[-1].raw) < 1024


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 40)), max_size=60))
def test_whatever_comes_nobody_is_overdrawn(steps: list[tuple[int, int, int]]) -> None:
    counter = Counter(20_000_000, newcomers="allowance", allowance=3_000_000)
    for kind, which, size in steps:
        session = f"{which:032x}"
        if kind <= 1:
            counter.voucher(size, session=session)
        elif kind == 2:
            counter.take(counter.scribe.release(counter.payer, counter.node, session=session))
        elif kind == 3:
            counter.books.now_s += size * 60
        elif kind == 4:
            counter.take(counter.scribe.transfer(counter.payer, counter.node, 1 + size * 100_000))
        elif kind == 5:
            counter.take(counter.scribe.grant(counter.payer, 1 + size * 50_000))
        else:
            try:
                counter.reserve(counter.wish(1 + size * 400_000, session=session))
            except Refusal as refusal:
                assert refusal.code in ("insufficient", "bad_payment")
        assert counter.available >= 0
    counter.check_books()
