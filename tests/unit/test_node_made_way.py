"""A volunteer that gave its model up for a new champion, when that one takes long or cannot be loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import ModelEntry
from gridllm.node import hosting, lifecycle, tenancy
from gridllm.node.hosting import Hosting
from gridllm.node.succession import making_way, succession, waiting
from tests.unit.node_heirs import crown, heir, said, served
from tests.unit.node_life import living
from tests.unit.notes import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heir")


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return heir(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never has room for two models, and gives the first up at once."""
    for module in (succession, waiting, making_way):
        monkeypatch.setattr(module, "LOOK_S", 0.05)
    monkeypatch.setattr(making_way, "QUIET_S", 0.0)
    monkeypatch.setattr(tenancy, "room_beside", lambda *_: None)


async def test_a_model_that_no_library_can_load_ends_no_node(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = hosting._load

    async def load(files: Path, *args: Any) -> Hosting:
        if files == folder:
            raise RuntimeError("not enough memory: you tried to allocate 8 GB")
        return await usual(files, *args)

    monkeypatch.setattr(hosting, "_load", load)
    async with living(tmp_path, champions={entry.root: folder}) as life:
        await life.serving()
        crown(life, entry)
        await until(lambda: len(life.notes.served) == 2 or life.task.done())
        assert said(life, "heir cannot be served here: heir cannot be loaded here (RuntimeError: not enough memory")
        assert [one.model for one in life.notes.served] == [life.entry.root] * 2


async def test_loading_may_take_longer_than_being_admitted(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = hosting._load

    async def load(files: Path, *args: Any) -> Hosting:
        if files == folder:
            await asyncio.sleep(1.0)
        return await usual(files, *args)

    monkeypatch.setattr(hosting, "_load", load)
    monkeypatch.setattr(lifecycle, "ADMISSION_S", 0.5)
    async with living(tmp_path, champions={entry.root: folder}) as life:
        await life.serving()
        crown(life, entry)
        await served(life, entry)
        assert not said(life, "Going back")
