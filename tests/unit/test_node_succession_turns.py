"""A volunteer on its way from one champion to another: the crown turns again, or other blocks are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import ModelEntry
from gridllm.node import tenancy
from gridllm.node.hosting import Hosting
from gridllm.node.surroundings import Surroundings
from tests.unit.node_heirs import Caller, crown, heir, hurry, records_of, said, served
from tests.unit.node_life import living
from tests.unit.notes import until

OLD = b"o" * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heir")


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return heir(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_nobody_waits_for_the_chain_of_a_model_that_is_champion_no_longer(
    tmp_path: Path, folder: Path, entry: ModelEntry
) -> None:
    async with living(tmp_path, champions={entry.root: folder}, grace_s=0.0) as life:
        await life.serving()
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, OLD, 2)
        life.heir_blocks = (0, 3)
        crown(life, entry)
        await served(life, entry)
        await asyncio.sleep(0.2)
        crown(life, life.entry)
        await until(lambda: said(life, "heir is served here no longer"))
        assert await records_of(life, entry) == []
        assert [one.state for one in await records_of(life, life.entry)] == ["serving"]
        await caller.step(life.entry, OLD, 1)
        life.heir_blocks = None
        crown(life, entry)
        await until(lambda: said(life, "demo takes no new sessions here; 1 may go on"))
        assert [(one.start, one.end) for one in await records_of(life, entry)] == [(0, 5)]


async def test_a_node_that_turned_back_may_move_again(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, usual = list[Callable[[], bool]](), Surroundings.needed_elsewhere

    async def needed(one: Surroundings, presence: Any, blocks: int, stays: Callable[[], bool]) -> Any:
        asked.append(stays)
        return await usual(one, presence, blocks, stays)

    async def prepare(*_: Any, **__: Any) -> Hosting:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    monkeypatch.setattr(Surroundings, "needed_elsewhere", needed)
    async with living(tmp_path, champions={entry.root: folder}, blocks=None) as life:
        await life.serving()
        await until(lambda: bool(asked) and not asked[-1]())
        monkeypatch.setattr(tenancy, "prepare", prepare)
        crown(life, entry)
        await until(lambda: asked[-1]())
        crown(life, life.entry)
        await until(lambda: not asked[-1]())


async def test_a_node_that_moves_with_the_new_model_keeps_the_old_one(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = asyncio.Queue[tuple[int, int]]()

    async def needed(_: Surroundings, presence: Any, blocks: int, stays: Callable[[], bool]) -> Any:
        if blocks != entry.blocks:
            return await asyncio.Event().wait()
        return await moves.get()

    monkeypatch.setattr(Surroundings, "needed_elsewhere", needed)
    async with living(tmp_path, champions={entry.root: folder}, grace_s=5.0) as life:
        await life.serving()
        life.heir_blocks = (0, 3)
        crown(life, entry)
        await served(life, entry)
        moves.put_nowait((2, 5))
        await until(lambda: len(life.notes.served) == 4)
        assert [(one.start, one.end) for one in await records_of(life, entry)] == [(2, 5)]
        assert [(one.start, one.end) for one in await records_of(life, life.entry)] == [(0, 2)]
        loads = [line for line in life.notes.lines if line.startswith("Loading blocks")]
        assert [line.split()[4] for line in loads] == ["demo", "heir", "heir"], "the old one stays in memory"
