"""A volunteer that gave its model up for a new champion, when that one takes long or cannot be loaded."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Admission, Minimums
from gridllm.errors import AdmissionError
from gridllm.node import hosting, lifecycle, tenancy
from gridllm.node.enrolment import Enrolment
from gridllm.node.hosting import Hosting
from gridllm.node.succession import making_way
from tests.certificates import certified
from tests.unit.node_heirs import crown, heir, hurry, said, served
from tests.unit.node_life import Life, living
from tests.unit.notes import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heir")


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return heir(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the first up at once."""
    hurry(monkeypatch)
    monkeypatch.setattr(making_way, "QUIET_S", 0.0)


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenancy, "room_beside", lambda *_: None)


@pytest.mark.usefixtures("crowded")
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


@pytest.mark.usefixtures("crowded")
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


async def test_who_would_be_measured_too_small_beside_the_old_model_makes_way(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[Life] = []

    async def examine(enrolment: Enrolment, swarm: Any, *_: Any) -> bytes:
        us, now = enrolment._membership, int(time.time())
        if us.entry.root == entry.root and lives[0].volunteer._tenancies[0].hosting is not None:
            raise AdmissionError("It holds 1 GiB at once where more is asked.")
        return certified(us.signed, swarm.peer, model=us.entry.root, roles=["serve"], issued=now, expires=now + 3600)

    monkeypatch.setattr(Enrolment, "examine", examine)
    asked = Admission(required=True, serve=Minimums(memory_bytes=2**49))  # no machine has as much free
    async with living(tmp_path, champions={entry.root: folder}, admission=asked) as life:
        lives.append(life)
        await life.serving()
        crown(life, entry)
        await served(life, entry)
        assert said(life, "does not hold demo and heir at once")
