"""Sums that rise without end: credit sent to and fro, until the database could hold no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.charter.economy import MAX_MICRO
from gridllm.errors import Malformed
from gridllm.ledger import messages
from gridllm.ledger.fold import Account
from gridllm.ledger.messages import AccountView, AccountViews, AskAccount, AskAccounts
from gridllm.ledger.paper import verify_pass
from gridllm_bootstrap.keeping.reserving import access_pass
from tests.ledgers import NOW, hex_of, homed
from tests.unit.keeper_books import Counter
from tests.unit.test_keeper_calls import ME, NODE, line

QUARTER = MAX_MICRO // 4


async def test_credit_that_goes_to_and_fro_stops_before_it_spoils_others_transactions(tmp_path: Path) -> None:
    async with line(tmp_path) as one:
        first, second = homed(one.scribe.signed, ME), homed(one.scribe.signed, ME)
        codes = await one.submit(one.scribe.grant(first, QUARTER).raw)
        for payer, payee in ((first, second), (second, first)) * 3:
            moving, other = one.scribe.transfer(payer, payee, QUARTER), one.scribe.grant(NODE, 1)
            said = await one.submit(moving.raw, other.raw)
            assert said[1] == "accepted"
            codes += said[:1]
        assert codes == ["accepted"] * 6 + ["bad_payment"]  # it was granted a quarter, too, but that is another sum
        view = await one.ask(messages.ACCOUNT_CALL, AskAccount(hex_of(first)), AccountView)
        assert (view.sent, view.received) == (3 * QUARTER, 2 * QUARTER)
        page = await one.ask(messages.ACCOUNTS_CALL, AskAccounts(), AccountViews)
        assert view.sent in [account.sent for account in page.accounts]


def test_an_account_that_moved_all_that_can_be_counted_is_paid_no_more() -> None:
    counter = Counter(10**9)
    counter.books.account(hex_of(counter.node)).earned = MAX_MICRO - counter.price(5)
    outcome = counter.voucher(5)
    assert (outcome.code, counter.tab.claimed) == ("later", 0)
    assert "another account" in outcome.text
    counter.books.account(hex_of(counter.node)).earned -= 1
    assert counter.voucher(5).code == "accepted"


def test_a_grant_beyond_what_can_be_counted_is_declined() -> None:
    counter = Counter(1)
    assert counter.take(counter.scribe.grant(counter.payer, MAX_MICRO - 1)).code == "bad_payment"
    last = counter.scribe.grant(counter.payer, MAX_MICRO - 2)
    assert [counter.take(last).code for _ in range(2)] == ["accepted", "known"]


def test_what_a_pass_cannot_say_is_said_as_far_as_it_can() -> None:
    counter, most = Counter(), MAX_MICRO - 1
    for account, contribution, available in (
        (Account(granted=most, received=most, spent=1, sent=0), -1, most),
        (Account(received=most, earned=most, spent=most, sent=most), -most, 0),
    ):
        raw = access_pass(counter.clerk, counter.keeper, hex_of(counter.payer), account, 0, NOW)
        said = verify_pass(raw, counter.scribe.signed)
        assert (said.contribution, said.available) == (contribution, available)


@pytest.mark.parametrize("after", ["\x00", "Ä", "A" * 64])
async def test_accounts_come_after_a_key(tmp_path: Path, after: str) -> None:
    async with line(tmp_path) as one:
        with pytest.raises(Malformed):
            await one.ask(messages.ACCOUNTS_CALL, AskAccounts(after), AccountViews)
