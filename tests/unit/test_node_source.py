"""Where a node's files come from when they are not here, and what it does when they cannot be had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gridllm.errors import ModelError
from gridllm.models.seeding import Seeding, Shelf
from gridllm.node import source, surroundings
from gridllm.node.source import Source
from gridllm.planning.placement import BlockRange
from gridllm.swarm.memory import MemoryNetwork
from tests.unit.node_life import living, room_for
from tests.unit.notes import until


async def test_a_move_to_blocks_whose_files_nobody_has_ends_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "FIRST_REBALANCE_S", (0.05, 0.1))
    monkeypatch.setattr(surroundings, "REBALANCE_S", (0.05, 0.1))
    monkeypatch.setattr(surroundings, "TURN_S", 0.05)
    asked: list[BlockRange | None] = []
    find = Source.folder

    async def scarce(self: Source, blocks: BlockRange | None) -> Path:
        asked.append(blocks)
        if blocks != asked[0]:
            raise ModelError("Nobody hands out 9 parts of 'demo'.")
        return await find(self, blocks)

    network = MemoryNetwork()
    async with (
        living(tmp_path / "a", network, blocks=(4, 8)) as steady,
        living(tmp_path / "b", network, blocks=(0, 4)) as leaving,
    ):
        await asyncio.gather(steady.serving(), leaving.serving())
        monkeypatch.setattr(Source, "folder", scarce)
        async with living(tmp_path / "c", network, blocks=None, memory_bytes=room_for(4), folder=None) as mover:
            first = await mover.serving()
            if first.start == 0:
                steady, leaving = leaving, steady
            leaving.stops.stop.set()
            await leaving.task
            again = await mover.serving()
            assert (again.start, again.end) == (first.start, first.end)
            assert len(asked) == 3
            assert any("Nobody hands out" in line and "Going back to blocks" in line for line in mover.notes.lines)
            await asyncio.sleep(0.5)
            assert len(asked) == 3, "it does not try again and again"


async def test_files_that_cannot_be_had_at_the_start_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(self: Source, blocks: BlockRange | None) -> Path:
        raise ModelError("Nobody hands out 9 parts of 'demo'.")

    monkeypatch.setattr(Source, "folder", none)
    async with living(tmp_path, folder=None) as life:
        with pytest.raises(ModelError, match="Nobody hands out"):
            await life.task


async def test_a_node_without_files_fetches_its_blocks_from_another_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "LOCAL", "demo")  # as if the demo model were on no Hub and in no package
    monkeypatch.setenv("GRIDLLM_CACHE_DIR", str(tmp_path / "cache"))
    network = MemoryNetwork()
    async with living(tmp_path / "a", network) as owner:
        await owner.serving()
        async with living(tmp_path / "b", network, folder=None) as newcomer:
            record = await newcomer.serving()
            assert (record.start, record.end) == (0, 2)
            fetched = tmp_path / "cache" / "models" / owner.entry.root
            assert list(fetched.glob("*.safetensors"))
            newcomer.stops.stop.set()
            await until(newcomer.task.done)


async def test_damaged_files_are_not_handed_out_and_do_not_end_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ModelError("it is damaged")

    monkeypatch.setattr(Shelf, "put", fail)
    served: list[Seeding] = []
    serve = Seeding.serve

    async def note(self: Seeding, swarm: object) -> None:
        served.append(self)
        await serve(self, swarm)  # type: ignore[arg-type]

    monkeypatch.setattr(Seeding, "serve", note)
    async with living(tmp_path) as life:
        await life.serving()
        assert served[0].shelf.roots == []
