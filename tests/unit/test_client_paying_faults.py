"""Paying when something is amiss: silent keepers, papers that are not accepted, nodes that ask for too much."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.economy import Tier
from gridllm.errors import Insufficient, KeeperSilent, NotEntitled
from gridllm.identity.keys import Identity
from gridllm.wire.messages import Owing, Payment, RowSlice
from gridllm_client import paying
from gridllm_client.paying import Payer
from tests.charters import ENTRY
from tests.ledgers import Scribe, hex_of, homed
from tests.unit.memory_grid import MemoryNode
from tests.unit.paid_grid import PaidGrid, feed, generate, paid, settled, watch_pauses
from tests.unit.tiny_models import LAYERS, Tiny, make_model

CUTS = (0, 2, 4, 5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny, tmp_path: Path) -> AsyncIterator[PaidGrid]:
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, trust=10**9) as grid:
        yield grid


def node_of(grid: PaidGrid, session: Any, hop: int) -> MemoryNode:
    return next(node for node in grid.listed if node.record.peer == session.chain[hop][0])


async def test_a_silent_keeper_holds_nothing_up(grid: PaidGrid):
    """A pass of yesterday, kept on disk, is good for trust; vouchers are signed all the same, and paid later."""
    await grid.session(tokens=10).open()
    grid.keeper.silent = True
    session = grid.session(tokens=400, wallet=grid.new_wallet())
    pauses = watch_pauses(session)
    await generate(session, 300, 40)
    session.close()
    await settled()
    assert pauses == []
    assert [event.kind for event in grid.events] == ["opened", "opened"]
    assert all(tab.escrow == 0 for _, tab in session._payer._tabs.values())  # type: ignore[union-attr]
    grid.keeper.silent = False
    assert await grid.hand_in() == sum(bill.micro for bill in session.bills) > 0


async def test_trust_ends_when_the_keeper_is_back(grid: PaidGrid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paying, "LOOK_S", 0.0)
    monkeypatch.setattr(paying, "RETRY_S", 0.0)
    await grid.wallet.renew()
    grid.keeper.silent = True
    session = grid.session(tokens=400)
    await generate(session, 100, 5)
    grid.keeper.silent = False
    grid.wallet._keepers._lines[grid.wallet._keepers.home(grid.wallet.account)].silent_until = 0.0
    for position in range(105, 120):
        await feed(session, [RowSlice(0, 0, position, 1, 1)])
    await settled()
    assert all(tab.escrow > 0 for _, tab in session._payer._tabs.values())  # type: ignore[union-attr]
    session.close()


async def test_a_keeper_that_falls_silent_midway_is_done_without(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, trust=10**9, window_tokens=8) as grid:
        session = grid.session()
        await generate(session, 10, 10)
        grid.keeper.silent = True
        for position in range(20, 60):
            await feed(session, [RowSlice(0, 0, position, 1, 1)])
        session.close()
        await settled()
        assert [event.kind for event in grid.events] == ["opened", "repaired"]
        grid.keeper.silent = False
        assert await grid.hand_in() == sum(bill.micro for bill in session.bills) > 0


async def test_without_any_pass_a_silent_keeper_is_named(grid: PaidGrid):
    grid.keeper.silent = True
    with pytest.raises(KeeperSilent, match="does not answer .* Try again when"):
        await grid.session(tokens=10).open()


async def test_a_model_for_contributors_says_what_is_lacking_until_it_is_earned(tiny: Tiny, tmp_path: Path):
    tiers = (Tier(model=ENTRY.root, contribution=70_000),)
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=0, tiers=tiers) as grid:
        await grid.add(0, 5)
        started = time.monotonic()
        with pytest.raises(NotEntitled, match=r"gave 0\.07 credits more than they took.* 0\.07 are lacking"):
            await grid.session(tokens=10).open()
        assert time.monotonic() - started < 10, "other nodes would say the same"
        await earn(grid, 70_000)
        grid.wallet._asked_at -= 5  # some time later
        session = grid.session(tokens=10)
        await generate(session, 5, 5)
        session.close()


async def earn(grid: PaidGrid, micro: int) -> None:
    """Somebody pays the account."""
    scribe, other = Scribe(grid.signed), neighbour(grid)
    now = int(time.time())
    await grid.keeper.take(scribe.grant(other, 10**9).raw)
    tokens = 0
    while scribe.price(0, tokens) < micro:
        tokens += 1
    await grid.keeper.take(scribe.voucher(other, grid.account, decode=tokens, issued=now).raw)


def neighbour(grid: PaidGrid) -> Identity:
    """Another account that the same keeper keeps."""
    return homed(grid.signed, grid.keeper.keeper.log)


async def test_papers_that_a_node_does_not_accept_are_renewed(grid: PaidGrid, monkeypatch: pytest.MonkeyPatch):
    session = grid.session(tokens=50)
    usual, shown = Payer._payment, []

    def spoilt(payer: Payer, hop: Any) -> Payment | None:
        shown.append(hop)
        made = usual(payer, hop)
        assert made is not None
        return Payment(made.delegation, b"no pass at all", made.escrow) if len(shown) <= 3 else made

    monkeypatch.setattr(Payer, "_payment", spoilt)
    await generate(session, 20, 10)
    assert grid.keeper.asked.count("escrow") == 2, "asked for again"
    session.close()


async def test_a_delegation_that_the_keeper_does_not_accept_is_signed_anew(grid: PaidGrid):
    wallet = grid.wallet
    wallet.delegation()
    wallet._delegation = b"{}"
    await generate(grid.session(tokens=50), 20, 2)


async def test_a_node_that_claims_too_much_is_left(grid: PaidGrid):
    for start, end in ((0, 2), (2, 4), (4, 5)):
        await grid.add(start, end)
    session = grid.session(tokens=400)
    await generate(session, 100, 5)
    liar = node_of(grid, session, 1)
    for one in liar.service._sessions:
        assert one.terms.bill is not None
        one.terms.bill.meter.replayed(1)
    grid.network.kill(session.chain[2][0])
    await feed(session, [RowSlice(0, 0, 105, 1, 1)])
    assert liar.record.peer not in {peer for peer, _, _ in session.chain}
    session.close()
    await settled()
    bill = next(bill for bill in session.bills if bill.peer == liar.record.peer)
    assert bill.micro == grid.price(2, 4, 99, 6), "what it did is paid"
    assert await grid.hand_in() == sum(bill.micro for bill in session.bills) - lost(grid, session)


def lost(grid: PaidGrid, session: Any) -> int:
    """What was signed for a node that was killed before it came."""
    tabs = session._payer._tabs
    return sum(tab.signed - grid.paid_on(key) for key, (_, tab) in tabs.items())


async def test_a_node_that_asks_for_too_much_is_left_with_the_reason_told(grid: PaidGrid):
    await grid.add(2, 4)
    session = grid.session(tokens=400)
    await generate(session, 100, 5)
    liar = session.chain[1][0]
    signed = {key: tab.signed for key, (_, tab) in session._payer._tabs.items()}  # type: ignore[union-attr]
    session.on_owing(liar, Owing(session._chain.id, 10**6, 0, 10**9, "Pay."))
    await feed(session, [RowSlice(0, 0, 105, 1, 1)])
    assert liar not in {peer for peer, _, _ in session.chain}
    (event,) = [event for event in grid.events if event.kind == "repaired"]
    assert f"node …{liar[-6:]}: the node asks for 1,000 credits, and was sent tokens for 0.00" in event.text
    session.close()
    assert all(tab.signed <= tab.owed for _, tab in session._payer._tabs.values())  # type: ignore[union-attr]
    assert signed


async def test_a_node_that_lost_the_session_goes_on_with_its_bill(grid: PaidGrid):
    session = grid.session(tokens=400)
    pauses = watch_pauses(session)
    await generate(session, 100, 50)
    await settled()
    forgetful = node_of(grid, session, 1)
    for one in forgetful.service._sessions:
        forgetful.service._sessions.close(one.id, one.client)
    for position in range(150, 200):
        await feed(session, [RowSlice(0, 0, position, 1, 1)])
    session.close()
    await settled()
    assert pauses == []
    assert await grid.hand_in() == sum(bill.micro for bill in session.bills)
    assert len(session.bills) == 3


async def test_a_bill_that_was_settled_for_good_begins_another_session(grid: PaidGrid):
    session = grid.session(tokens=400)
    await generate(session, 100, 50)
    await settled()
    node = node_of(grid, session, 1)
    for one in node.service._sessions:
        node.service._sessions.close(one.id, one.client)
    await grid.hand_in()  # and release
    for position in range(150, 160):
        await feed(session, [RowSlice(0, 0, position, 1, 1)])
    session.close()
    await settled()
    assert len(session.bills) == 6
    spent = await grid.hand_in()
    unread = sum(bill.micro for bill in session.bills) - spent
    assert 0 <= unread <= grid.price(2, 4, 0, 32), "half a window: the node had closed its bill before the rest came"


async def test_a_node_of_the_account_itself_is_not_paid(grid: PaidGrid):
    owner = neighbour(grid)
    await grid.keeper.take(Scribe(grid.signed).grant(owner, 10**9).raw)
    grid.listed = [node for node in grid.listed if node.record.start != 2]
    await grid.add(2, 4, identity=owner)
    session = grid.session(tokens=400, wallet=grid.new_wallet(owner))
    await generate(session, 100, 50)
    session.close()
    await settled()
    assert [(bill.start, bill.micro) for bill in session.bills] == [
        (0, grid.price(0, 2, 99, 51)),
        (4, grid.price(4, 5, 99, 51)),
    ]


async def test_a_fresh_pass_is_shown_on_the_way(grid: PaidGrid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paying, "LOOK_S", 0.0)
    session = grid.session(tokens=400)
    await generate(session, 100, 5)
    before = grid.wallet.access
    grid.wallet._asked_at -= 5
    grid.wallet.forget()
    time.sleep(1.1)  # noqa: ASYNC251 - passes are dated by the second
    for position in range(105, 175):
        await feed(session, [RowSlice(0, 0, position, 1, 1)])
    assert grid.wallet.access != before
    assert {hop.payment.access for hop in session._chain.hops if hop.payment is not None} == {grid.wallet.access}
    session.close()


async def test_insufficient_names_both_amounts(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=5) as grid:
        with pytest.raises(Insufficient) as caught:
            await grid.session(tokens=1000).open()
        assert str(caught.value).count(".") >= 1
        assert hex_of(grid.account) not in str(caught.value)
