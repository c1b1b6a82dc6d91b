"""A volunteer that follows the champion: it goes over to each new one, and no session is dropped for that."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from gridllm.charter.document import ModelEntry
from gridllm.charter.economy import Economy
from gridllm.charter.minimums import Admission
from gridllm.errors import AdmissionError, ModelError
from gridllm.models.manifest import Manifest
from gridllm.node import standing, tenancy
from gridllm.node.enrolment import Enrolment
from gridllm.node.hosting import Hosting
from gridllm.node.stay import Stay
from gridllm.node.succession import making_way, succession
from gridllm.wire.messages import Leaving
from tests.certificates import certified
from tests.unit.node_heirs import Caller, crown, heir, hurry, records_of, said, served
from tests.unit.node_life import Life, living
from tests.unit.notes import until

OLD, NEW, LATE = b"o" * 16, b"n" * 16, b"l" * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heir")


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return heir(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(standing, "FIRST_PAUSE_S", 0.2)


async def test_old_and_new_sessions_on_one_node_and_none_is_dropped(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = [False]

    async def is_whole(_: Stay) -> bool:
        return stands[0]

    monkeypatch.setattr(succession, "is_whole", is_whole)
    async with living(tmp_path, champions={entry.root: folder}, grace_s=0.2) as life:
        await life.serving()
        await until(lambda: said(life, "no champion yet; demo is served until then"))
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, OLD, 2)
        before = await caller.step(life.entry, OLD, 1)
        held = life.volunteer._tenancies[0].hosting
        assert held is not None
        span = weakref.ref(held.engine.span)
        del held
        crown(life, entry)
        await served(life, entry)
        assert [one.state for one in await records_of(life, life.entry)] == ["serving"]
        await caller.open(entry, NEW, 5)
        assert await caller.refused(entry, OLD, 5) == "session_exists", "ids are the node's, not a model's"
        assert (await caller.step(entry, NEW, 1)).shape == (1, entry.hidden_size)
        await caller.open(life.entry, LATE, 2)  # until the new one has stood for a while
        assert torch.equal(await caller.step(life.entry, LATE, 1), before)
        caller.close(LATE)
        stands[0] = True
        await until(lambda: said(life, "demo takes no new sessions here; "))
        assert await caller.refused(life.entry, LATE, 2) == "draining"
        assert [one.state for one in await records_of(life, life.entry)] == ["draining"]
        assert (await caller.step(life.entry, OLD, 2)).shape == before.shape
        await caller.step(entry, NEW, 2)
        assert not any(isinstance(message, Leaving) for message, _ in caller.heard), "the node stays"
        caller.close(OLD)
        await until(lambda: said(life, "demo is served here no longer"))
        assert await records_of(life, life.entry) == []
        await until(lambda: gc.collect() >= 0 and span() is None)  # its memory is free
        assert await caller.refused(life.entry, LATE, 2) == "wrong_model"
        await caller.step(entry, NEW, 3)
        assert [one.state for one in await records_of(life, entry)] == ["serving"]


async def test_the_old_model_stays_while_the_new_chain_has_gaps(
    tmp_path: Path, folder: Path, entry: ModelEntry
) -> None:
    async with living(tmp_path, champions={entry.root: folder}, grace_s=0.0) as life:
        await life.serving()
        life.heir_blocks = (0, 3)
        crown(life, entry)
        await served(life, entry)
        await asyncio.sleep(0.4)
        assert [one.state for one in await records_of(life, life.entry)] == ["serving"]
        assert [(one.start, one.end) for one in await records_of(life, entry)] == [(0, 3)]
        async with living(tmp_path / "b", life.network, champions={entry.root: folder}, grace_s=0.0) as other:
            await other.serving()
            other.heir_blocks = (3, 5)
            crown(other, entry)
            await until(lambda: said(life, "demo is served here no longer"))
            await until(lambda: said(other, "demo is served here no longer"))
            assert [(one.start, one.end) for one in sorted(await records_of(life, entry), key=lambda r: r.start)] == [
                (0, 3),
                (3, 5),
            ]


async def test_what_cannot_be_had_is_tried_again_and_the_old_one_served(
    tmp_path: Path, folder: Path, entry: ModelEntry
) -> None:
    async with living(tmp_path, champions={}, grace_s=0.0) as life:
        await life.serving()
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, OLD, 2)
        crown(life, entry)
        await until(lambda: said(life, "heir cannot be served here yet: Nobody hands out heir. This node goes on"))
        await caller.step(life.entry, OLD, 1)
        assert [one.state for one in await records_of(life, life.entry)] == ["serving"]
        assert await records_of(life, entry) == []
        life.champions[entry.root] = folder
        await served(life, entry)
        caller.close(OLD)
        await until(lambda: said(life, "demo is served here no longer"))


async def test_a_node_that_is_not_admitted_for_it_goes_on_serving(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[Life] = []
    trouble = [True]

    async def examine(enrolment: Enrolment, swarm: Any, manifest: Manifest, *_: Any) -> bytes:
        root = enrolment._membership.entry.root
        if root == entry.root and trouble[0]:
            raise AdmissionError("Its decode reaches 3 blocks/s where 100 are asked.")
        now = int(time.time())
        return certified(lives[0].signed, swarm.peer, model=root, roles=["serve"], issued=now, expires=now + 3600)

    monkeypatch.setattr(Enrolment, "examine", examine)
    closed = Admission(required=True)
    async with living(tmp_path, champions={entry.root: folder}, grace_s=0.0, admission=closed) as life:
        lives.append(life)
        first = await life.serving()
        crown(life, entry)
        await until(lambda: said(life, "heir cannot be served here yet: Its decode reaches 3 blocks/s"))
        assert [one.certificate for one in await records_of(life, life.entry)] == [first.certificate]
        trouble[0] = False
        await until(lambda: said(life, "demo is served here no longer"))
        (record,) = await records_of(life, entry)
        assert record.certificate not in (b"", first.certificate), "a certificate is for one model"


async def test_without_room_for_both_it_makes_way_once_nobody_is_left(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making_way, "QUIET_S", 0.2)
    monkeypatch.setattr(tenancy, "room_beside", lambda *_: None)
    async with living(tmp_path, champions={entry.root: folder}) as life:
        await life.serving()
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, OLD, 2)
        crown(life, entry)
        await until(lambda: said(life, "does not hold demo and heir at once"))
        await asyncio.sleep(0.5)
        await caller.step(life.entry, OLD, 1)
        assert len(life.notes.served) == 1
        caller.close(OLD)
        await served(life, entry)
        assert await records_of(life, life.entry) == []
        assert [one.state for one in await records_of(life, entry)] == ["serving"]


async def test_who_made_way_for_nothing_comes_back(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making_way, "QUIET_S", 0.0)
    usual = tenancy.prepare
    broken = [True]

    async def prepare(served: ModelEntry, *args: Any, **kwargs: Any) -> Hosting:
        if served.root == entry.root and broken[0]:
            raise ModelError("A tensor is not the grid's.")
        return await usual(served, *args, **kwargs)

    monkeypatch.setattr(tenancy, "prepare", prepare)
    monkeypatch.setattr(tenancy, "room_beside", lambda *_: None)
    async with living(tmp_path, champions={entry.root: folder}) as life:
        await life.serving()
        crown(life, entry)
        await until(lambda: said(life, "heir cannot be served here: A tensor is not the grid's. Going back to demo"))
        await until(lambda: [one.model for one in life.notes.served][:2] == [life.entry.root] * 2)
        broken[0] = False
        await served(life, entry)


async def test_both_come_back_when_the_swarm_is_lost(tmp_path: Path, folder: Path, entry: ModelEntry) -> None:
    async with living(tmp_path, champions={entry.root: folder}, grace_s=20.0) as life:
        record = await life.serving()
        crown(life, entry)
        await served(life, entry)
        loaded = len(life.notes.loaded)
        life.network.kill(record.peer)
        await until(lambda: len(life.notes.served) == 4)
        assert {one.model for one in life.notes.served[2:]} == {life.entry.root, entry.root}
        assert len(life.notes.loaded) == loaded, "what is in memory is not loaded again"
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, OLD, 2)
        await caller.open(entry, NEW, 5)
        life.stops.stop.set()
        await until(lambda: sum(isinstance(message, Leaving) for message, _ in caller.heard) == 1)
        caller.close(OLD)
        caller.close(NEW)
        await asyncio.wait([life.task], timeout=10)
        assert life.task.done()
        assert await records_of(life, entry) == await records_of(life, life.entry) == []


async def test_a_node_that_is_paid_has_a_till_for_each_and_one_purse(
    tmp_path: Path, folder: Path, entry: ModelEntry
) -> None:
    paid = Economy(required=True, newcomers="nothing")
    async with living(tmp_path, champions={entry.root: folder}, economy=paid, grace_s=0.2) as life:
        await life.serving()
        crown(life, entry)
        await served(life, entry)
        caller = Caller(life)
        await caller.join()
        assert await caller.refused(life.entry, OLD, 2) == await caller.refused(entry, NEW, 5) == "not_entitled"
        await until(lambda: said(life, "demo is served here no longer"))
        assert await caller.refused(entry, NEW, 5) == "not_entitled"
        await until(lambda: bool(life.notes.pulses) and life.notes.pulses[-1].earned == 0)


async def test_a_node_that_starts_under_a_champion_serves_that(tmp_path: Path, folder: Path, entry: ModelEntry) -> None:
    async with living(tmp_path, champions={entry.root: folder}) as life:
        crown(life, entry)  # before anything of it has run
        assert (await life.serving()).model == entry.root
        assert not said(life, "demo")
