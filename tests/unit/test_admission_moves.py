"""A node whose admission ends leaves the chains it is in: the text stays what it would have been."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch

from gridllm.admission.certificate import SKEW_S
from gridllm.wire.messages import RowSlice
from gridllm_client.generation import tokens_of
from gridllm_client.sampling import Picker, generation_config
from gridllm_client.session import Session
from gridllm_client.terms import ChainEvent
from tests.certificates import certified, revocation
from tests.unit.closed_grid import ClosedGrid
from tests.unit.memory_grid import grid_of
from tests.unit.reference import SPANS, Reference, local_greedy, plain_step, step
from tests.unit.tiny_models import LAYERS, VOCAB, Tiny, make_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny) -> AsyncIterator[ClosedGrid]:
    """One admitted node for each third of the model."""
    async with grid_of(ClosedGrid, tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
        yield grid


async def spares(grid: ClosedGrid) -> None:
    for start, end in SPANS:
        await grid.add(start, end)


async def generate(grid: ClosedGrid, session: Session, prompt: torch.Tensor, count: int, on_token: Any) -> list[int]:
    lm = grid.ends.causal_lm(torch.nn.Identity())
    config = generation_config(lm, temperature=0)
    config.eos_token_id = None
    pick, tokens = Picker(lm, config, len(prompt), seed=None), []
    async for token in tokens_of(session, grid.ends, prompt.tolist(), pick, count):
        tokens.append(token)
        on_token(len(tokens))
    return tokens


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("hears", ["client", "nodes", "everyone"])
async def test_a_revoked_node_leaves_the_chain_and_the_text_is_the_same(
    grid: ClosedGrid, tiny: Tiny, place: int, hears: str
) -> None:
    await spares(grid)
    torch.manual_seed(place)
    prompt, events = torch.randint(3, VOCAB, (19,)), list[ChainEvent]()
    session = grid.session(on_event=events.append)
    await session.open()
    victim = session.chain[place][0]

    def at(token: int) -> None:
        if token == 8:
            notice = revocation(grid.signed, victim)
            if hears != "nodes":
                grid.tell_client(notice)
            if hears != "client":
                grid.tell_nodes(notice)

    tokens = await generate(grid, session, prompt, 24, at)
    assert tokens == local_greedy(tiny, prompt, 24)
    assert victim not in {peer for peer, _, _ in session.chain}
    assert {peer for event in events for peer in event.lost} == {victim}, "nobody else had to go"
    later = grid.session()
    await later.open()
    assert hears == "nodes" or victim not in {peer for peer, _, _ in later.chain}
    session.close()
    later.close()


async def test_a_node_revoked_in_the_middle_of_a_step(grid: ClosedGrid, tiny: Tiny) -> None:
    await spares(grid)
    session, reference = grid.session(), Reference(tiny, 1)
    await session.open()
    grid.network.latency_s = 0.05
    running = asyncio.create_task(step(session, reference, [RowSlice(0, 0, 0, 200, 3)]))
    await asyncio.sleep(0.12)
    victim = session.chain[1][0]
    grid.tell_client(revocation(grid.signed, victim))
    await asyncio.wait_for(running, 60)
    await step(session, reference, plain_step([0], session.lengths))
    assert victim not in {peer for peer, _, _ in session.chain}
    session.close()


async def test_a_certificate_that_runs_out_moves_the_session(grid: ClosedGrid, tiny: Tiny) -> None:
    await spares(grid)
    session, reference = grid.session(), Reference(tiny, 1)
    await session.open()
    victim, others = session.chain[1][0], {node.swarm.peer for node in grid.listed}
    now = int(time.time())
    for peer in others - {victim}:
        await grid.announce(grid.by_peer(peer), certified(grid.signed, peer, expires=now + 10 * 86_400))
    await step(session, reference, [RowSlice(0, 0, 0, 40, 1)])
    grid.ahead_s = 86_400 + SKEW_S + 10
    await asyncio.sleep(1.1)  # nodes look at their neighbours every second
    for _ in range(2):
        await step(session, reference, plain_step([0], session.lengths))
    assert victim not in {peer for peer, _, _ in session.chain}
    session.close()


async def test_a_node_that_renews_its_certificate_keeps_its_sessions(grid: ClosedGrid, tiny: Tiny) -> None:
    """No spare: the only nodes there are go on, over many lives of a certificate."""
    events: list[ChainEvent] = []
    session, reference = grid.session(on_event=events.append), Reference(tiny, 1)
    await step(session, reference, [RowSlice(0, 0, 0, 40, 1)])
    chain = session.chain
    for life in range(1, 4):
        grid.ahead_s = life * 86_400 + (SKEW_S + 10 if life > 1 else 0)
        issued = int(grid.clock())
        for node in grid.listed:
            raw = certified(grid.signed, node.swarm.peer, issued=issued, expires=issued + 86_400)
            await grid.announce(node, raw)
        await asyncio.sleep(1.1)
        for _ in range(2):
            await step(session, reference, plain_step([0], session.lengths))
    assert session.chain == chain
    assert not {peer for event in events for peer in event.lost}
    session.close()
