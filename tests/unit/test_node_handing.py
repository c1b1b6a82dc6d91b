"""What a node is owed reaches the keepers once they answer, and what is left of an escrow goes back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import gridllm.node.counter.handing as handing
from gridllm.errors import LedgerError
from gridllm.ledger.messages import Outcome
from gridllm.ledger.statements import Release, TabKey, Voucher
from gridllm.ledger.store.slips import Slip
from gridllm.node.counter.handing import due, pause_s
from gridllm.node.counter.purse import RETURN_S
from tests.ledgers import SESSION, hex_of, keeper_of
from tests.unit.node_paying import Payer, keep
from tests.unit.notes import until
from tests.unit.purse_counter import Counter, price


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    counter = Counter(tmp_path)
    async with counter.purse:
        yield counter


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
