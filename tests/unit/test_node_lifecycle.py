"""A volunteer's life on an in-memory network: serving, losing the swarm, moving, draining, leaving."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.fetch import fetch_charter, fetch_manifest
from gridllm.errors import ModelError, SwarmError, UsageError
from gridllm.identity.keys import Identity
from gridllm.node import lifecycle, surroundings
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Close, Leaving
from tests.unit.node_life import demo, living, open_session, room_for
from tests.unit.notes import until


async def test_serves_announces_hands_out_the_charter_and_leaves(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        record = await life.serving()
        assert (record.start, record.end, record.state) == (0, 2, "serving")
        assert record.total_tokens >= 256
        assert record.blocks_per_s > 0
        assert await life.records() == [record]
        client = life.network.join(Identity.ephemeral())
        assert (await fetch_charter(client, record.peer)).grid == life.signed.grid
        assert await fetch_manifest(client, record.peer, life.entry.model_root) == demo()[1]
        assert life.notes.loaded == sorted(life.notes.loaded)
        await until(lambda: bool(life.notes.pulses))
        life.stops.stop.set()
        await life.task
        assert await life.records() == []


async def test_comes_back_with_the_same_span_when_the_swarm_is_lost(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        record = await life.serving()
        loaded = len(life.notes.loaded)
        life.network.kill(record.peer)
        again = await life.serving()
        assert (again.peer, again.start, again.end) == (record.peer, 0, 2)
        assert len(life.notes.loaded) == loaded, "what is in memory is not loaded again"
        assert [r.state for r in await life.records()] == ["serving"]


async def test_gives_up_when_the_swarm_keeps_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FIRST_BACKOFF_S", 0.001)
    async with living(tmp_path) as life:
        record = await life.serving()

        async def refuse() -> Swarm:
            raise SwarmError("The libp2p daemon did not start.")

        monkeypatch.setattr(life.volunteer, "_open_swarm", refuse)
        life.network.kill(record.peer)
        with pytest.raises(SwarmError, match="7 times in a row"):
            await life.task


async def test_a_grid_that_cannot_be_entered_is_said_at_once(tmp_path: Path) -> None:
    async with living(tmp_path) as life:

        async def refuse() -> Swarm:
            raise SwarmError("The libp2p daemon did not start.")

        life.volunteer._open_swarm = refuse
        with pytest.raises(SwarmError, match="did not start"):
            await life.task


async def test_moves_to_blocks_that_lost_their_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "FIRST_REBALANCE_S", (0.05, 0.1))
    monkeypatch.setattr(surroundings, "REBALANCE_S", (0.05, 0.1))
    monkeypatch.setattr(surroundings, "TURN_S", 0.05)
    network = MemoryNetwork()
    async with living(tmp_path / "a", network, blocks=(4, 8)) as steady:
        await steady.serving()
        async with living(tmp_path / "b", network, blocks=(0, 4)) as leaving:
            await leaving.serving()
            async with living(tmp_path / "c", network, blocks=None, memory_bytes=room_for(4)) as mover:
                first = await mover.serving()
                if first.start == 0:  # equally served: its peer id decides
                    steady, leaving = leaving, steady
                await asyncio.sleep(0.3)
                assert len(mover.notes.served) == 1, "nothing to gain yet"
                leaving.stops.stop.set()
                await leaving.task
                moved = await mover.serving()
                assert moved.peer == first.peer
                assert (moved.start, moved.end) == (4 - first.start, 8 - first.start)
                spans = {(r.start, r.end) for r in await mover.records()}
                assert spans == {(0, 4), (4, 8)}


async def test_draining_tells_clients_and_waits_for_them(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        await life.serving()
        link, heard = await open_session(life)
        life.stops.stop.set()
        await until(lambda: any(isinstance(message, Leaving) for message in heard))
        assert [record.state for record in await life.records()] == ["draining"]
        assert any("1 session" in line for line in life.notes.lines)
        assert not life.task.done()
        link.send(Close(bytes(16)))
        await asyncio.wait([life.task], timeout=60)
        assert life.task.done()
        assert await life.records() == []


async def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        await life.serving()
        await open_session(life)
        life.stops.stop.set()
        await until(lambda: any("Draining" in line for line in life.notes.lines))
        life.stops.hurry.set()
        await asyncio.wait([life.task], timeout=60)
        assert life.task.done()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"blocks": (6, 9)}, UsageError, "0:8; 6:9"),
        ({"blocks": (0, 8), "memory_bytes": 70 * 2**20}, UsageError, "Blocks 0:8 do not fit"),
        ({"blocks": None, "memory_bytes": 1000}, UsageError, "Not one block fits"),
        ({"folder": Path("/nonexistent")}, ModelError, "/nonexistent"),
    ],
)
async def test_what_cannot_be_served_is_said(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    async with living(tmp_path, **changes) as life:
        with pytest.raises(error, match=says):
            await life.task
        assert await life.records() == []


async def test_stopping_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        await until(lambda: any("Loading" in line for line in life.notes.lines))
        life.stops.stop.set()
        await life.task
        assert life.notes.served == []
        assert await life.records() == []
