"""What a node is owed survives everything: restarts, full disks, clients that walk off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from gridllm.database.engine import writing
from gridllm.errors import LedgerError
from gridllm.ledger.messages import Outcome
from gridllm.ledger.statements import Release
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.slips import SlipStore
from gridllm.node.counter.handing import due
from gridllm.node.counter.purse import RETURN_S, TRUST_KEPT_S
from gridllm.wire.messages import RowSlice
from tests.ledgers import NOW
from tests.unit.node_paying import Payer, keep
from tests.unit.purse_counter import Counter, price

DAY = 86400


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    counter = Counter(tmp_path)
    async with counter.purse:
        yield counter


async def test_a_bill_that_is_opened_again_keeps_what_was_set_aside_for_it(counter: Counter) -> None:
    """Or a gift would count as earned, and an escrow be released before it ends."""
    first = counter.served(7, gift=True)
    first.raise_escrow(counter.scribe.escrow(counter.payer.identity, counter.node, 10**8).statement)  # type: ignore[arg-type]
    counter.purse.note(first)
    for escrow in (0, 10):  # on trust, and with an escrow from before it was raised
        again = counter.bill(escrow=escrow)
        counter.purse.begin(again)
        counter.purse.note(again)
        slip = counter.purse.slip(again.tab)
        assert slip is not None and (slip.escrow, slip.gift, slip.expires) == (10**8, 10**9, first.expires)
        assert again.cover == first.cover and not again.on_trust


async def test_a_restart_forgets_nothing(counter: Counter) -> None:
    counter.served(7)
    counter.served(5, session="1e" * 16, close=False)
    counter.served(3, session="2d" * 16, escrow=0)
    await counter.purse.flush()
    before = {slip.tab: slip for slip in counter.purse.slips()}
    purse = await counter.restarted()  # as after kill -9: nobody closed the old one
    try:
        assert purse.earnings == counter.purse.earnings
        assert purse.debt(counter.payer.account) == counter.purse.debt(counter.payer.account) == price(counter, 3)
        for slip in purse.slips():
            if slip.tab.session == "1e" * 16:
                assert slip.closed_at == NOW and slip.release_at == NOW + RETURN_S
                assert (slip.micro, slip.voucher) == (before[slip.tab].micro, before[slip.tab].voucher)
            else:
                assert slip == before[slip.tab]
        await counter.hand_in(purse).round()
        assert purse.earnings == (price(counter, 7) + price(counter, 5) + price(counter, 3), 0)
        assert len(counter.desk.said(Release)) == 2, "the client of the open one may come back"
    finally:
        await purse.__aexit__(None, None, None)
    purse = await counter.restarted()
    assert purse.earnings == (price(counter, 7) + price(counter, 5) + price(counter, 3), 0)
    await purse.__aexit__(None, None, None)


async def test_its_sums_are_those_of_its_bills(counter: Counter) -> None:
    """After every kind of change: the sums are kept, not made anew each time they are shown."""
    seen: set[int] = set()
    trusted: set[str] = set()

    def checked() -> None:
        slips = list(counter.purse.slips())
        waiting = sum(s.worth(s.micro) - s.worth(s.accepted) for s in slips if s.payable)
        assert counter.purse.earnings.waiting == waiting
        assert {s.tab for s in due(slips, 1e12)} <= {s.tab for s in counter.purse.unsettled()}
        owing = {s.tab.payer: s.micro - s.accepted for s in slips if s.on_trust and s.micro > s.accepted}
        assert owing == {payer: counter.purse.debt(payer) for payer in counter.purse.debtors()}
        trusted.update(owing)
        seen.add(waiting)

    answers = ["accepted", "later", "bad_payment"]
    counter.desk.answer = lambda entry: Outcome(answers[len(counter.desk.heard) % 3])
    for number in range(12):
        payer = Payer(counter.scribe, counter.node)
        session = f"{number:032x}"
        gift, escrow = number % 5 == 4, 0 if number % 4 == 2 else 10**9
        bill = counter.served(number + 1, payer, session=session, close=number % 2 == 0, gift=gift, escrow=escrow)
        checked()
        if number % 3 == 0:
            keep(counter.purse, bill, payer.voucher(0, number + 5, session=session), counter.scribe)
            checked()
        await counter.handing.round()
        counter.clock.now += 40
        checked()
    counter.clock.now += 10**6
    counter.purse.forget_old()
    checked()
    assert counter.purse.earnings.earned > 0 and len(seen) > 5 and len(trusted) == 3
    for slip in counter.purse.slips():
        counter.purse.settle(slip, slip.micro)
        checked()
    assert not counter.purse.debtors()


async def test_it_is_on_disk_within_a_second(counter: Counter) -> None:
    counter.served(7)

    def stored() -> int:
        store = SlipStore(counter.folder / "purse.db")
        try:
            return len(store.load()[0])
        finally:
            store.close()

    async with asyncio.timeout(60):
        while not await asyncio.to_thread(stored):  # noqa: ASYNC110 - another thread writes
            await asyncio.sleep(0.1)


async def test_a_full_disk_is_said_once_and_nothing_is_lost(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise LedgerError("the disk is full")

    store = counter.purse._store
    assert store is not None
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(store, "save", full)
        counter.served(7)
        for _ in range(3):
            await counter.purse.flush()
    assert len([r for r in caplog.records if "in memory only" in r.message]) == 1
    await counter.purse.flush()
    assert len(store.load()[0]) == 1


async def test_what_was_left_unpaid_counts_for_two_days(counter: Counter) -> None:
    bill = counter.bill()
    counter.purse.begin(bill)
    bill.resume(bill.meter.count._replace(decode=4))
    counter.purse.shut(bill, by_client=True)
    account = counter.payer.account
    assert counter.purse.left_unpaid(account) == price(counter, 4) == counter.purse.debt(account)
    await counter.purse.flush()
    purse = await counter.restarted()
    assert purse.left_unpaid(account) == price(counter, 4)
    counter.clock.now += 2 * DAY
    assert purse.left_unpaid(account) == 0
    purse.forget_old()
    await purse.__aexit__(None, None, None)


async def test_who_walks_off_does_not_have_the_escrow_back_before_it_ends(counter: Counter) -> None:
    """Or one credit could be set aside, walked off with and passed on to a new name, over and over."""
    bill = counter.served(7, close=False)
    bill.take([RowSlice(0, 0, 0, 1, 1)], 100)
    counter.purse.shut(bill, by_client=True)
    await counter.handing.round()
    counter.clock.now = bill.expires - 1
    await counter.handing.round()
    assert counter.desk.said(Release) == []
    counter.clock.now = bill.expires
    await counter.handing.round()
    assert len(counter.desk.said(Release)) == 1


async def test_settled_bills_are_forgotten_once_they_cannot_be_opened_again(counter: Counter) -> None:
    counter.served(7)
    counter.served(3, session="2d" * 16, escrow=0)
    await counter.handing.round()
    await counter.purse.flush()
    counter.purse.forget_old()
    assert len(list(counter.purse.slips())) == 2
    counter.clock.now += 1800 + 301
    counter.purse.forget_old()
    assert [slip.tab.session for slip in counter.purse.slips()] == ["2d" * 16]
    counter.clock.now += TRUST_KEPT_S
    counter.purse.forget_old()
    await counter.purse.flush()
    purse = await counter.restarted()
    assert list(purse.slips()) == [] and purse.earnings.earned == price(counter, 7) + price(counter, 3)
    await purse.__aexit__(None, None, None)


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    SlipStore(tmp_path / "purse.db").close()
    engine = open_engine(f"sqlite:///{tmp_path / 'purse.db'}")
    with writing(engine) as connection:
        connection.execute(text("UPDATE totals SET value = 99 WHERE name = 'version'"))
    engine.dispose()
    with pytest.raises(LedgerError, match="later GridLLM"):
        SlipStore(tmp_path / "purse.db")
