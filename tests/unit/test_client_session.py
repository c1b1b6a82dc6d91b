"""Sessions that lose nodes: the hidden states that come back are what they would have been."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridllm.errors import BadTensor, RouteError, UsageError
from gridllm.swarm.link import Link
from gridllm.wire.messages import Refused, RowSlice
from gridllm_client.terms import ChainEvent, Patience
from tests.unit.memory_grid import MemoryGrid, MemoryNode, memory_grid
from tests.unit.notes import until
from tests.unit.reference import SPANS, Reference, plain_step, some_step, step
from tests.unit.tiny_models import LAYERS, Tiny, make_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny) -> AsyncIterator[MemoryGrid]:
    """Two nodes for each third of the model."""
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
        for start, end in SPANS:
            await grid.add(start, end)
        yield grid


async def test_beams_rollback_and_chunks_without_failures(grid: MemoryGrid, tiny: Tiny):
    session, reference, rng = grid.session(rows=3), Reference(tiny, 3), random.Random(1)
    await session.open()
    for number in range(12):
        await step(session, reference, some_step(rng, session.lengths), number)
    session.close()


async def test_open_says_what_chain_it_chose(grid: MemoryGrid):
    events: list[ChainEvent] = []
    session = grid.session(on_event=events.append)
    await session.open()
    assert [event.kind for event in events] == ["opened"]
    assert [(start, end) for _, start, end in session.chain] == [*SPANS]
    session.close()


@pytest.mark.parametrize("victims", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
async def test_lost_hops_are_replaced(
    grid: MemoryGrid, tiny: Tiny, victims: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """By the connections' end, not by silence."""
    monkeypatch.setitem(Link.__init__.__kwdefaults__, "silence_s", 300.0)
    events: list[ChainEvent] = []
    session, reference = grid.session(rows=2, on_event=events.append), Reference(tiny, 2)
    await session.open()
    await step(session, reference, [RowSlice(0, 0, 0, 40, 1), RowSlice(1, 1, 0, 7, 1)])
    await step(session, reference, plain_step([0, 1], session.lengths))
    lost = [session.chain[index][0] for index in victims]
    for peer in lost:
        grid.network.kill(peer)
    async with asyncio.timeout(60):
        for _ in range(3):
            await step(session, reference, plain_step([0, 1], session.lengths))
    assert {peer for event in events for peer in event.lost} == set(lost)
    assert not set(lost) & {peer for peer, _, _ in session.chain}
    session.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_kills_at_random_moments(tiny: Tiny, seed: int):
    async def run() -> None:
        rng = random.Random(seed)
        async with memory_grid(tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
            for start, end in [*SPANS, (0, 3), (3, 5)]:
                await grid.add(start, end)
            rows = rng.randint(1, 3)
            session, reference = grid.session(rows=rows), Reference(tiny, rows)

            async def killer() -> None:
                for _ in range(4):
                    await asyncio.sleep(rng.random() * 0.04)
                    if not session.chain:
                        continue
                    peer = rng.choice(session.chain)[0]
                    old = next(node for node in grid.listed if node.record.peer == peer)
                    await grid.add(old.record.start, old.record.end)  # a spare comes, then the node goes
                    grid.network.kill(peer)

            killing = asyncio.create_task(killer())
            number = 0
            while not killing.done() or number < 6:
                await step(session, reference, some_step(rng, session.lengths), number)
                number += 1
            await killing
            session.close()

    asyncio.run(run())


async def test_a_frozen_node_is_replaced_in_bounded_time(grid: MemoryGrid, tiny: Tiny):
    events: list[ChainEvent] = []
    session, reference = grid.session(on_event=events.append), Reference(tiny, 1)
    await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
    frozen = session.chain[1][0]
    grid.network.freeze(frozen)
    started = time.monotonic()
    async with asyncio.timeout(60):
        await step(session, reference, plain_step([0], session.lengths))
    took_s = time.monotonic() - started
    assert frozen not in {peer for peer, _, _ in session.chain}
    repaired = events[-1]
    assert 4 < repaired.pause_s <= took_s, "the silence before it was noticed is part of the pause"
    assert f"node …{frozen[-6:]} " in repaired.text, "the lost node is named, not the one that noticed"
    session.close()


async def test_no_spare_is_an_error_that_names_the_blocks(tiny: Tiny):
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
        session, reference = grid.session(patience=Patience(linger_s=0.5)), Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
        grid.network.kill(session.chain[1][0])
        async with asyncio.timeout(60):
            with pytest.raises(RouteError, match="2:4") as caught:
                await step(session, reference, plain_step([0], session.lengths))
        assert caught.value.uncovered == ((2, 4),)
        with pytest.raises(UsageError, match="closed"):
            await step(session, reference, plain_step([0], session.lengths))


async def test_no_node_at_all(tiny: Tiny):
    async with memory_grid(tiny.folder, LAYERS, (0,)) as grid:
        with pytest.raises(RouteError) as caught:
            await grid.session(patience=Patience(linger_s=0.2)).open()
        assert caught.value.uncovered == ((0, LAYERS),)
        assert "wait for one with --wait" in str(caught.value)
        with pytest.raises(RouteError, match=f"; start one: gridllm serve --blocks 0:{LAYERS}") as caught:
            await grid.session(patience=Patience(wait_s=0.2)).open()
        assert "--wait" not in str(caught.value), "it waited"


async def test_waiting_for_a_node(tiny: Tiny):
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
        events: list[ChainEvent] = []
        session = grid.session(patience=Patience(wait_s=30), on_event=events.append)
        reference = Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
        grid.network.kill(session.chain[1][0])

        async def later() -> MemoryNode:
            await until(lambda: any(event.kind == "waiting" for event in events))
            return await grid.add(2, 4)

        coming = asyncio.create_task(later())
        await step(session, reference, plain_step([0], session.lengths))
        assert (await coming).record.peer in {peer for peer, _, _ in session.chain}
        assert [event.kind for event in events] == ["opened", "waiting", "repaired"]
        session.close()


async def test_a_living_hop_takes_over_its_neighbours_blocks(tiny: Tiny):
    """No spare for the lost hop alone, yet another chain exists: it starts over on that one."""
    async with memory_grid(tiny.folder, LAYERS, (0, 3, 5)) as grid:
        session, reference = grid.session(), Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
        await grid.add(1, 5)
        await grid.add(0, 1)
        grid.network.kill(session.chain[1][0])
        for _ in range(2):
            await step(session, reference, plain_step([0], session.lengths))
        session.close()


async def test_a_full_node_sends_the_client_elsewhere(tiny: Tiny):
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 5)) as grid:
        small = await grid.add(2, 5, cache_tokens=64)
        session, reference = grid.session(), Reference(tiny, 1)
        large = next(node for node in grid.listed if node.record.start == 2)
        grid.listed.remove(large)
        await step(session, reference, [RowSlice(0, 0, 0, 60, 1)])
        assert session.chain[1][0] == small.record.peer
        grid.listed.append(large)
        for _ in range(8):
            await step(session, reference, plain_step([0], session.lengths))
        assert session.chain[1][0] == large.record.peer
        session.close()


async def test_a_leaving_node_is_left_between_two_steps(grid: MemoryGrid, tiny: Tiny):
    session, reference = grid.session(), Reference(tiny, 1)
    await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
    node = next(n for n in grid.listed if n.record.peer == session.chain[0][0])
    link = grid.pool.known(node.record.peer)
    draining = asyncio.create_task(node.service.drain(100))
    await until(lambda: link is not None and link.leaving)
    await step(session, reference, plain_step([0], session.lengths))
    assert node.record.peer not in {peer for peer, _, _ in session.chain}
    await asyncio.wait_for(draining, 60)
    session.close()


async def test_a_link_that_breaks_is_opened_again(tiny: Tiny):
    """The only node for its blocks stumbled: the session resumes on it."""
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 5)) as grid:
        session, reference = grid.session(), Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
        link = grid.pool.known(session.chain[1][0])
        assert link is not None
        await link.close()
        for _ in range(2):
            await step(session, reference, plain_step([0], session.lengths))
        session.close()


async def test_a_node_that_forgot_the_session_is_fed_again(grid: MemoryGrid, tiny: Tiny):
    session, reference = grid.session(), Reference(tiny, 1)
    await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
    before = session.chain
    for peer, _, _ in before[1:]:
        next(node for node in grid.listed if node.record.peer == peer).service._sessions.clear()
    for _ in range(2):
        await step(session, reference, plain_step([0], session.lengths))
    assert session.chain == before or session.chain[0] == before[0]
    session.close()


@pytest.mark.parametrize("spare", [True, False])
async def test_an_accusation_replaces_the_accused_where_it_can(tiny: Tiny, spare: bool):
    """Between two nodes the network may fail while both answer the client."""
    async with memory_grid(tiny.folder, LAYERS, (0, 2, 5)) as grid:
        session, reference = grid.session(), Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
        if spare:
            await grid.add(2, 5)
            await asyncio.sleep(0)
        (head, _, _), (tail, _, _) = session.chain
        link = grid.pool.known(head)
        assert link is not None
        session.on_refused(head, Refused(None, session._chain.id, "next_hop_lost", "the push failed", tail))
        for _ in range(2):
            await step(session, reference, plain_step([0], session.lengths))
        assert (tail in {peer for peer, _, _ in session.chain}) is not spare
        session.close()


async def test_bad_hidden_states_are_the_callers_own_fault(grid: MemoryGrid):
    session = grid.session()
    with pytest.raises(BadTensor, match="NaN"):
        await session.forward([RowSlice(0, 0, 0, 2, 1)], torch.full((2, session.terms.hidden_size), torch.nan))
    assert session.closed


async def test_a_prompt_of_many_calls(grid: MemoryGrid, tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gridllm_client.frames.CALL_TOKENS", 50)
    session, reference = grid.session(rows=2), Reference(tiny, 2)
    await step(session, reference, [RowSlice(0, 0, 0, 130, 7), RowSlice(1, 1, 0, 33, 33)])
    await step(session, reference, [RowSlice(0, 1, 30, 60, 2), RowSlice(1, 0, 100, 70, 70)])
    session.close()


async def test_eight_sessions_at_once_share_links(grid: MemoryGrid, tiny: Tiny):
    async def one(number: int) -> None:
        session, reference = grid.session(), Reference(tiny, 1)
        await step(session, reference, [RowSlice(0, 0, 0, 5 + number, 1)], number)
        for i in range(5):
            await step(session, reference, plain_step([0], session.lengths), 10 * number + i)
        session.close()

    await asyncio.gather(*map(one, range(8)))
    await until(lambda: all(node.service.sessions == 0 for node in grid.listed))


async def test_a_cancelled_step_closes_the_session(grid: MemoryGrid, tiny: Tiny):
    session, reference = grid.session(), Reference(tiny, 1)
    await step(session, reference, [RowSlice(0, 0, 0, 9, 1)])
    for node in grid.listed:
        grid.network.freeze(node.record.peer)
    stepping = asyncio.create_task(step(session, reference, plain_step([0], session.lengths)))
    await asyncio.sleep(0.05)
    stepping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stepping
    assert session.closed
    for node in grid.listed:
        grid.network.thaw(node.record.peer)
    await until(lambda: all(node.service.sessions == 0 for node in grid.listed))


async def test_misuse_is_named(grid: MemoryGrid):
    session = grid.session()
    hidden = torch.zeros(1, session.terms.hidden_size)
    with pytest.raises(UsageError, match="does not fit"):
        await session.forward([RowSlice(0, 0, 3, 1, 1)], hidden)
    with pytest.raises(UsageError, match="at least 1"):
        await session.forward([RowSlice(0, 0, 0, 1, 0)], hidden)
    with pytest.raises(UsageError, match="64 rows"):
        grid.session(rows=65)
    session.close()
