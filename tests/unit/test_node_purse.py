"""What a node is owed survives everything, and reaches the keepers once they answer."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import gridllm.node.counter.handing as handing
from gridllm.database.engine import writing
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.messages import Outcome
from gridllm.ledger.statements import Release, TabKey, Voucher
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.slips import Slip, SlipStore
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.handing import HandIn, due, pause_s
from gridllm.node.counter.purse import RETURN_S, TRUST_KEPT_S, Purse
from gridllm.wire.messages import RowSlice
from tests.charters import ENTRY
from tests.ledgers import NOW, SESSION, hex_of, keeper_of
from tests.unit.node_paying import Clock, Desk, Payer, keep, purse_of, scribe
from tests.unit.notes import until

DAY = 86400


class Counter:
    """A node's purse and the keepers it goes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scribe, self.node, self.clock = scribe(), Identity.ephemeral(), Clock()
        self.desk = Desk(self.scribe.signed)
        self.purse = purse_of(folder, self.clock)
        self.payer = Payer(self.scribe, self.node)
        self.handing = self.hand_in(self.purse)

    def hand_in(self, purse: Purse) -> HandIn:
        return HandIn(purse, self.desk, self.scribe.signed.grid, self.node, clock=self.clock)

    def bill(self, payer: Payer | None = None, *, escrow: int = 10**9, gift: bool = False, **changes: Any) -> Bill:
        who = payer or self.payer
        tab = TabKey(SESSION, who.account, hex_of(self.node), ENTRY.root, 0, ENTRY.blocks)._replace(**changes)
        economy = self.scribe.signed.charter.economy
        parameters = self.scribe.rules.parameters(ENTRY.root, 0, ENTRY.blocks)
        bill = Bill(tab, economy.prices, parameters, economy.window_tokens)
        if escrow:
            held = self.scribe.escrow(who.identity, self.node, escrow, gift=gift, session=tab.session).statement
            bill.raise_escrow(held)  # type: ignore[arg-type]
        return bill

    def served(self, decode: int, payer: Payer | None = None, *, close: bool = True, **changes: Any) -> Bill:
        """A session that was served and paid."""
        who, bill = payer or self.payer, self.bill(payer, **changes)
        self.purse.begin(bill)
        bill.resume(bill.meter.count._replace(decode=decode))
        keep(self.purse, bill, who.voucher(0, decode, session=bill.tab.session), self.scribe)
        if close:
            self.purse.shut(bill, by_client=True)
        return bill

    async def restarted(self) -> Purse:
        """The purse of the node's next start."""
        return await purse_of(self.folder, self.clock).__aenter__()


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    counter = Counter(tmp_path)
    async with counter.purse:
        yield counter


def price(counter: Counter, decode: int) -> int:
    return counter.scribe.price(0, decode)


async def test_a_voucher_is_taken_and_the_escrow_released(counter: Counter) -> None:
    counter.served(7)
    assert counter.purse.earnings == (0, price(counter, 7))
    await counter.handing.round()
    assert counter.purse.earnings == (price(counter, 7), 0)
    assert [v.decode for v in counter.desk.said(Voucher)] == [7]
    (release,) = counter.desk.said(Release)
    assert release.payee == hex_of(counter.node) and release.payer == counter.payer.account
    home = hex_of(keeper_of(counter.scribe.signed, counter.payer.identity))
    assert {keeper for keeper, _ in counter.desk.heard} == {home}
    await counter.handing.round()
    assert len(counter.desk.heard) == 2, "what is settled is not handed in again"


async def test_a_session_that_goes_on_is_handed_in_and_not_released(counter: Counter) -> None:
    bill = counter.served(7, close=False)
    await counter.handing.round()
    keep(counter.purse, bill, counter.payer.voucher(0, 9), counter.scribe)
    assert counter.purse.earnings == (price(counter, 7), price(counter, 9) - price(counter, 7))
    await counter.handing.round()
    assert len(counter.desk.said(Voucher)) == 1, "the escrow holds, and a higher one will come"
    counter.clock.now += handing.OPEN_EVERY_S
    await counter.handing.round()
    assert counter.purse.earnings == (price(counter, 9), 0)
    assert counter.desk.said(Release) == []


async def test_a_client_that_fell_silent_may_come_back_before_the_release(counter: Counter) -> None:
    bill = counter.served(7, close=False)
    counter.purse.shut(bill, by_client=False)
    await counter.handing.round()
    assert counter.desk.said(Release) == []
    counter.clock.now += RETURN_S
    await counter.handing.round()
    assert len(counter.desk.said(Release)) == 1
    slip = counter.purse.slip(bill.tab)
    assert slip is not None and slip.released


async def test_a_silent_keeper_loses_nothing(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    counter.desk.silent = True
    counter.served(7)
    for _ in range(50):
        await counter.handing.round()
        counter.clock.now += 3600
    assert counter.purse.earnings.waiting == price(counter, 7)
    counter.desk.silent = False
    await counter.handing.round()
    assert counter.purse.earnings == (price(counter, 7), 0)


async def test_a_silent_keeper_is_left_alone_for_longer_and_longer(counter: Counter) -> None:
    asked: list[float] = []

    async def submit(keeper: str, raws: object) -> list[Outcome]:
        asked.append(counter.clock.now)
        raise LedgerError("no")

    counter.desk.submit = submit  # type: ignore[method-assign, assignment]
    counter.served(7)
    for _ in range(4000):
        await counter.handing.round()
        counter.clock.now += 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps[0] < 30 and max(gaps) <= 1.25 * handing.LONGEST_PAUSE_S + 1 and len(asked) < 16
    assert [pause_s(tries, 0.5) for tries in (1, 2, 3, 99)] == [20, 40, 80, 600]


async def test_one_silent_keeper_does_not_hold_up_another(counter: Counter) -> None:
    others = [Payer(counter.scribe, counter.node) for _ in range(12)]
    dead = counter.desk.home(others[0].account)
    submit = counter.desk.submit

    async def partly(keeper: str, raws: Any) -> list[Outcome]:
        if keeper == dead:
            raise LedgerError("dead")
        return await submit(keeper, raws)

    counter.desk.submit = partly  # type: ignore[method-assign]
    for payer in others:
        counter.served(3, payer)
    await counter.handing.round()
    alive = [payer for payer in others if counter.desk.home(payer.account) != dead]
    assert len(alive) in range(1, 12)
    assert counter.purse.earnings.earned == len(alive) * price(counter, 3)


async def test_what_the_keeper_takes_later_is_tried_later(counter: Counter) -> None:
    counter.desk.answer = lambda entry: Outcome("later", "the account has nothing left")
    counter.served(7)
    await counter.handing.round()
    await counter.handing.round()
    assert len(counter.desk.heard) == 1 and counter.purse.earnings.waiting == price(counter, 7)
    counter.desk.answer = lambda entry: Outcome("accepted")
    counter.clock.now += 30
    await counter.handing.round()
    assert counter.purse.earnings == (price(counter, 7), 0)


async def test_who_has_nothing_left_is_tried_less_and_less_often(counter: Counter) -> None:
    counter.desk.answer = lambda entry: Outcome("later", "the account has nothing left")
    counter.served(7)
    for _ in range(7 * 24):
        await counter.handing.round()
        counter.clock.now += 3600
    assert len(counter.desk.heard) < 50


async def test_what_it_will_never_take_is_kept_aside(counter: Counter, caplog: pytest.LogCaptureFixture) -> None:
    counter.desk.answer = lambda entry: Outcome("bad_payment", "it is of no account")
    bill = counter.served(7)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await counter.handing.round()
            counter.clock.now += 3600
    assert len([r for r in caplog.records if "kept aside" in r.message]) == 1
    assert counter.desk.said(Release) == []
    slip = counter.purse.slip(bill.tab)
    assert slip is not None and slip.refused == "bad_payment: it is of no account"
    assert counter.purse.earnings == (0, 0)


async def test_nobody_pays_a_gift_and_it_is_not_given_twice(counter: Counter) -> None:
    counter.served(7, gift=True)
    await counter.handing.round()
    assert counter.desk.heard == [] and counter.purse.earnings == (0, 0)
    again = counter.bill(gift=True)
    counter.purse.begin(again)
    assert again.meter.count.decode == 7


async def test_beyond_the_gift_it_is_paid(counter: Counter) -> None:
    bill = counter.served(7, gift=True, escrow=price(counter, 7), close=False)
    bill.raise_escrow(counter.scribe.escrow(counter.payer.identity, counter.node, price(counter, 2)).statement)  # type: ignore[arg-type]
    bill.resume(bill.meter.count._replace(decode=9))
    keep(counter.purse, bill, counter.payer.voucher(0, 9), counter.scribe)
    await counter.handing.round()
    assert counter.purse.earnings == (price(counter, 9) - price(counter, 7), 0)


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

    for _ in range(40):
        if await asyncio.to_thread(stored):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it was not written")


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


async def test_it_hands_in_soon_after_a_session_closed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "SOON_S", 0.05)
    running = asyncio.create_task(counter.handing.run())
    try:
        await asyncio.sleep(0.1)
        counter.served(7)
        await until(lambda: counter.purse.earnings.earned > 0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_last_round_takes_no_longer_than_it_may(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "LAST_S", 0.1)

    async def submit(keeper: str, raws: object) -> list[Outcome]:
        await asyncio.sleep(60)
        return []

    counter.desk.submit = submit  # type: ignore[method-assign, assignment]
    counter.served(7)
    await asyncio.wait_for(counter.handing.last(), 60)
    assert counter.purse.earnings.waiting == price(counter, 7)
    (slip,) = counter.purse.slips()
    assert not slip.released


async def test_a_last_round_that_fails_does_not_keep_the_node(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    async def submit(keeper: str, raws: object) -> list[Outcome]:
        raise ValueError("nobody thought of this")

    counter.desk.submit = submit  # type: ignore[method-assign, assignment]
    counter.served(7)
    await counter.handing.last()
    assert counter.purse.earnings.waiting == price(counter, 7)
    assert "The last round to the ledger's keepers failed" in caplog.text


async def test_a_session_opened_while_its_release_is_under_way_is_not_lost(counter: Counter) -> None:
    bill = counter.served(7)
    submit = counter.desk.submit
    seen: list[bool] = []

    async def watched(keeper: str, raws: Any) -> list[Outcome]:
        slip = counter.purse.slip(bill.tab)
        seen.append(slip is not None and slip.released)
        return await submit(keeper, raws)

    counter.desk.submit = watched  # type: ignore[method-assign]
    await counter.handing.round()
    assert seen == [False, True], "from the moment its release is signed it opens no more"


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    SlipStore(tmp_path / "purse.db").close()
    engine = open_engine(f"sqlite:///{tmp_path / 'purse.db'}")
    with writing(engine) as connection:
        connection.execute(text("UPDATE totals SET value = 99 WHERE name = 'version'"))
    engine.dispose()
    with pytest.raises(LedgerError, match="later GridLLM"):
        SlipStore(tmp_path / "purse.db")


def test_what_is_due() -> None:
    tab = TabKey(SESSION, "a" * 64, "b" * 64, "c" * 64, 0, 1)
    paid = Slip(tab, b"v", 5, 0, 1, accepted=5)
    for slip, ready in (
        (Slip(tab), False),
        (Slip(tab, b"v", 5), True),
        (Slip(tab, b"v", 5, again_at=11.0), False),
        (Slip(tab, b"v", 5, refused="no"), False),
        (Slip(tab, b"v", 5, gift=9, release_at=1.0), False),
        (paid, False),
        (Slip(tab, b"v", 5, accepted=5, closed_at=1.0, release_at=9.0), True),
        (Slip(tab, b"v", 5, accepted=5, closed_at=1.0, release_at=11.0), False),
        (Slip(tab, b"v", 5, accepted=5, closed_at=1.0, release_at=9.0, released=True), False),
        (Slip(tab, expires=99, closed_at=1.0, release_at=9.0), True),
        (Slip(tab, b"v", 5, escrow=9, expires=999, taken_at=5.0), False),
        (Slip(tab, b"v", 5, escrow=9, expires=99, taken_at=5.0), True),  # it ends soon
        (Slip(tab, b"v", 5, escrow=9, expires=999, taken_at=-999.0), True),
        (Slip(tab, b"v", 5, escrow=9, expires=999, taken_at=5.0, closed_at=7.0), True),
        (Slip(tab, b"v", 5, taken_at=5.0), True),  # on trust
    ):
        assert bool(due([slip], 10.0)) is ready, slip
