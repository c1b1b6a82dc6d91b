"""Sessions that pay: client, nodes and the account's keeper agree to the micro-credit, whatever happens on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridllm.errors import Insufficient
from gridllm.wire.messages import RowSlice
from tests.ledgers import BLOCKS
from tests.unit.paid_grid import PaidGrid, feed, generate, paid, settled, watch_pauses
from tests.unit.tiny_models import LAYERS, Tiny, make_model

CUTS = (0, 2, 4, 5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny, tmp_path: Path) -> AsyncIterator[PaidGrid]:
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path) as grid:
        yield grid


@pytest.mark.parametrize("expected", [0, 850])
async def test_all_books_agree_to_the_micro_credit(grid: PaidGrid, expected: int):
    session = grid.session(tokens=expected)
    pauses = watch_pauses(session)
    await generate(session, 700, 149)
    session.close()
    await settled()
    due = [sum(BLOCKS[a:b]) * (699 * 250 + 150 * 1000) // 10**6 for a, b in ((0, 2), (2, 4), (4, 5))]
    assert [(bill.prefill, bill.decode, bill.micro) for bill in session.bills] == [(699, 150, micro) for micro in due]
    assert await grid.hand_in() == sum(due)
    assert pauses == [], "a client that pays in time is never waited for"
    asked = grid.keeper.asked.count("escrow")
    assert asked == 1 if expected else 1 < asked < 10, "known: set aside at once; unknown: raised as it goes on"


async def test_who_took_more_than_it_gave_pays_as_long_as_it_has_credit(grid: PaidGrid):
    """Granted credit is spent; a pass from then on names a contribution below zero."""
    for spent in range(2):
        wallet = grid.new_wallet()
        session = grid.session(tokens=20, wallet=wallet)
        await generate(session, 10, 10)
        session.close()
        await settled()
        assert wallet.contribution < 0 if spent else wallet.contribution == 0
        assert len(session.bills) == len(CUTS) - 1
        assert all(bill.micro > 0 for bill in session.bills)
        await grid.hand_in()


async def test_rows_and_beams_are_metered_alike(grid: PaidGrid):
    session, rng = grid.session(rows=5), random.Random(3)
    pauses = watch_pauses(session)
    for _ in range(40):
        lengths, slices = session.lengths, []
        for row in rng.sample(range(5), rng.randint(1, 5)):
            source = rng.randrange(5)
            cut = rng.randint(0, lengths[source])
            slices.append(RowSlice(row, source, cut, rng.choice([1, 1, 1, 2, 150]), 1))
        await feed(session, slices)
    session.close()
    await settled()
    assert await grid.hand_in() == sum(bill.micro for bill in session.bills) > 0
    assert len({(bill.prefill, bill.decode) for bill in session.bills}) == 1
    assert pauses == []


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_all_books_agree_when_nodes_are_lost(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory, seed: int):
    async def run() -> None:
        rng = random.Random(seed)
        async with paid(tiny.folder, LAYERS, CUTS, tmp_path_factory.mktemp("home")) as grid:
            for start, end in [(0, 2), (2, 4), (4, 5), (0, 3), (3, 5)]:
                await grid.add(start, end)
            session = grid.session(rows=2, tokens=rng.choice([0, 900]))
            pauses = watch_pauses(session)

            async def killer() -> None:
                for _ in range(4):
                    await asyncio.sleep(rng.random() * 0.08)
                    peer = rng.choice(session.chain)[0]
                    old = next(node for node in grid.listed if node.record.peer == peer)
                    await grid.add(old.record.start, old.record.end)
                    grid.network.kill(peer)

            async def call() -> None:
                lengths = session.lengths
                await feed(session, [RowSlice(row, row, lengths[row], rng.choice([1, 1, 130]), 1) for row in (0, 1)])

            await session.open()
            killing = asyncio.create_task(killer())
            number = 0
            while not killing.done() or number < 10:
                await call()
                number += 1
            await killing
            await call()  # so that the one that was killed last is replaced, too
            living = {peer for peer, _, _ in session.chain}
            session.close()
            await settled()
            spent = await grid.hand_in()
            assert session._payer is not None
            for key, (peer, tab) in session._payer._tabs.items():
                if peer in living:
                    assert grid.paid_on(key) == tab.signed >= tab.owed  # more: paid ahead, and replayed for less
                else:
                    assert grid.paid_on(key) <= tab.signed  # the last voucher may have died with the node
            assert spent == sum(map(grid.paid_on, session._payer._tabs))
            assert len(session._payer._tabs) == len(session.bills) > len(living)
            assert pauses == []

    asyncio.run(run())


async def test_who_cannot_pay_is_told_what_to_do(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=1000) as grid:
        with pytest.raises(Insufficient, match="needs .* credits .* has 0.001 credits available; serve blocks"):
            await grid.session(tokens=100).open()
        assert all(node.service.sessions == 0 for node in grid.listed)


async def test_on_a_grid_for_all_it_is_served_after_those_who_pay(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=0, newcomers="lowest") as grid:
        session = grid.session()
        await generate(session, 300, 8)
        session.close()
        assert [event.text for event in grid.events if event.kind == "unpaid"] == [
            event.text for event in grid.events if event.text.startswith("served at lowest priority: This needs ")
        ]
        assert sum(event.kind == "unpaid" for event in grid.events) == 1
        assert session.bills == ()
        assert await grid.hand_in() == 0


async def test_credit_that_runs_out_on_a_grid_for_all_ends_nothing(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=30_000, newcomers="lowest", window_tokens=8) as grid:
        session = grid.session()
        await generate(session, 10, 60)
        session.close()
        await settled()
        kinds = [event.kind for event in grid.events]
        assert kinds == ["opened", "unpaid", "repaired"]
        assert await grid.hand_in() == sum(bill.micro for bill in session.bills) > 0


async def test_credit_that_runs_out_elsewhere_is_an_error_that_says_so(tiny: Tiny, tmp_path: Path):
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=30_000, window_tokens=8) as grid:
        session = grid.session()
        with pytest.raises(Insufficient, match="needs .* credits"):
            await generate(session, 10, 60)
        await settled()
        assert await grid.hand_in() == sum(bill.micro for bill in session.bills) > 0


async def test_an_allowance_is_used_and_nobody_pays(tiny: Tiny, tmp_path: Path):
    allowance: dict[str, Any] = {"newcomers": "allowance", "allowance": 10**9}
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, credit=0, **allowance) as grid:
        session = grid.session(tokens=200)
        await generate(session, 100, 40)
        session.close()
        await settled()
        assert [(bill.prefill, bill.decode, bill.micro) for bill in session.bills] == [(99, 41, 0)] * 3
        assert await grid.hand_in() == 0
