"""A volunteer that serves an old model and its successor, when one of the two may be served no longer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Admission
from gridllm.errors import AdmissionError, ModelError
from gridllm.models.manifest import Manifest
from gridllm.node import renewal, tenancy
from gridllm.node.enrolment import Enrolment, Membership
from gridllm.node.standing import Standing
from gridllm.node.succession import succession
from gridllm.node.tenancy import Tenancy
from tests.certificates import certified
from tests.unit.node_heirs import Caller, crown, heir, hurry, records_of
from tests.unit.node_life import Life, living
from tests.unit.notes import until

SESSION = b"s" * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heir")


@pytest.fixture
def entry(folder: Path) -> ModelEntry:
    return heir(folder)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


class Grid:
    """Measures whoever comes once for each model, and admits it for an hour."""

    def __init__(self) -> None:
        self.standings: dict[str, Standing] = {}  # by model root, the latest

    def lapse(self, entry: ModelEntry) -> None:
        """The node's certificate for that model runs out."""
        self.standings[entry.root]._clock = lambda: time.time() + 7200


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Grid:
    made, usual, measured = Grid(), Life.membership, set[str]()

    def membership(life: Life, entry: ModelEntry) -> Membership:
        membership = usual(life, entry)
        made.standings[entry.root] = membership.standing
        return membership

    async def examine(enrolment: Enrolment, swarm: Any, _manifest: Manifest, *_: Any) -> bytes:
        us = enrolment._membership
        if us.entry.root in measured:
            raise AdmissionError("Its decode reaches 3 blocks/s where 100 are asked.")
        measured.add(us.entry.root)
        now = int(time.time())
        return certified(us.signed, swarm.peer, model=us.entry.root, roles=["serve"], issued=now, expires=now + 3600)

    monkeypatch.setattr(Life, "membership", membership)
    monkeypatch.setattr(Enrolment, "examine", examine)
    return made


CLOSED = Admission(required=True)


async def go_over(life: Life, entry: ModelEntry) -> None:
    """Until it serves the old model and the new one."""
    await life.serving()
    crown(life, entry)
    await until(lambda: served(life) == ["demo", "heir"])


def served(life: Life) -> list[str]:
    return ["demo" if one.model == life.entry.root else "heir" for one in life.notes.served]


def said(life: Life, text: str) -> bool:
    return any(text in line for line in life.notes.lines)


async def test_an_old_model_that_lapsed_is_dropped_when_the_swarm_is_lost(
    tmp_path: Path, folder: Path, entry: ModelEntry, grid: Grid
) -> None:
    async with living(tmp_path, champions={entry.root: folder}, admission=CLOSED) as life:
        await go_over(life, entry)
        loaded = len(life.notes.loaded)
        grid.lapse(life.entry)
        life.network.kill(life.identity.peer)
        await until(lambda: served(life)[2:] == ["heir"] or life.task.done())
        assert said(life, "demo is served here no longer: The certificate of this node has expired. This node goes on")
        assert [one.state for one in await records_of(life, entry)] == ["serving"]
        assert [one.entry.name for one in life.volunteer._tenancies] == ["heir"]
        assert len(life.notes.loaded) == loaded, "what is in memory is not loaded again"


async def test_an_old_model_that_cannot_be_had_is_dropped_when_the_swarm_is_lost(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tenancy.obtain_manifest
    async with living(tmp_path, champions={entry.root: folder}) as life:
        await go_over(life, entry)

        async def obtain(swarm: Any, wanted: ModelEntry, *args: Any, **options: Any) -> tuple[Manifest, bytes]:
            if wanted.root == life.entry.root:
                raise ModelError("Nobody has its manifest.")
            return await usual(swarm, wanted, *args, **options)

        monkeypatch.setattr(tenancy, "obtain_manifest", obtain)
        life.network.kill(life.identity.peer)
        await until(lambda: served(life)[2:] == ["heir"] or life.task.done())
        assert said(life, "demo is served here no longer: Nobody has its manifest. This node goes on with heir.")
        assert [one.state for one in await records_of(life, entry)] == ["serving"]


async def test_the_old_model_is_served_on_when_the_new_one_lapses(
    tmp_path: Path, folder: Path, entry: ModelEntry, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LONGEST_NAP_S", 0.1)
    async with living(tmp_path, champions={entry.root: folder}, admission=CLOSED) as life:
        await go_over(life, entry)
        loaded = len(life.notes.loaded)
        grid.lapse(entry)
        await until(lambda: served(life)[2:] == ["demo"] or life.task.done())
        assert said(life, "heir cannot be served here: The certificate of this node has expired. Going back to demo")
        assert len(life.notes.loaded) == loaded, "the old one stays in memory"
        assert await records_of(life, entry) == []
        caller = Caller(life)
        await caller.join()
        await caller.open(life.entry, SESSION, 2)
        await caller.step(life.entry, SESSION, 1)


async def test_the_old_model_is_served_on_when_the_new_one_is_refused_after_the_swarm_was_lost(
    tmp_path: Path, folder: Path, entry: ModelEntry, grid: Grid
) -> None:
    async with living(tmp_path, champions={entry.root: folder}, admission=CLOSED) as life:
        await go_over(life, entry)
        grid.lapse(entry)
        life.network.kill(life.identity.peer)
        await until(lambda: served(life)[2:] == ["demo"] or life.task.done())
        assert said(life, "heir cannot be served here: Its decode reaches 3 blocks/s where 100 are asked. Going back")
        assert [one.state for one in await records_of(life, life.entry)] == ["serving"]


async def test_a_node_that_waits_to_be_admitted_again_goes_over_to_the_champion(
    tmp_path: Path, folder: Path, entry: ModelEntry, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LONGEST_NAP_S", 0.1)
    async with living(tmp_path, champions={entry.root: folder}, admission=CLOSED) as life:
        await life.serving()
        grid.lapse(life.entry)
        await until(lambda: said(life, "Not admitted yet") or life.task.done())
        crown(life, entry)
        await until(lambda: served(life) == ["demo", "heir"] or life.task.done())
        assert [one.state for one in await records_of(life, entry)] == ["serving"]
        assert await records_of(life, life.entry) == []


async def test_a_swarm_lost_while_the_old_model_is_taken_down_leaves_the_new_one_all_room(
    tmp_path: Path, folder: Path, entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, begun = Tenancy.let_go, asyncio.Event()
    async with living(tmp_path, champions={entry.root: folder}, grace_s=0.0) as life:

        async def let_go(tenancy: Tenancy) -> None:
            if tenancy.entry.root == life.entry.root and not begun.is_set():
                begun.set()
                await asyncio.Event().wait()  # its engine is in a pass that takes long
            await usual(tenancy)

        monkeypatch.setattr(Tenancy, "let_go", let_go)
        await life.serving()
        crown(life, entry)
        await until(begun.is_set)
        assert [one.crowded for one in life.volunteer._tenancies] == [False]
        life.network.kill(life.identity.peer)
        await until(lambda: served(life)[2:] == ["heir"] or life.task.done())
        assert [(one.entry.name, one.crowded) for one in life.volunteer._tenancies] == [("heir", False)]


async def test_authorities_that_do_not_answer_keep_no_room_from_the_old_models_caches(
    tmp_path: Path, folder: Path, entry: ModelEntry, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Enrolment.examine

    async def examine(enrolment: Enrolment, *args: Any) -> bytes:
        if enrolment._membership.entry.root == entry.root:
            await asyncio.Event().wait()
        return await usual(enrolment, *args)

    monkeypatch.setattr(Enrolment, "examine", examine)
    monkeypatch.setattr(succession, "ADMISSION_S", 0.5)
    async with living(tmp_path, champions={entry.root: folder}, admission=CLOSED, cache_tokens=16_384) as life:
        record = await life.serving()
        hosting = life.volunteer._tenancies[0].hosting
        assert hosting is not None and record.total_tokens == 16_384
        crown(life, entry)
        await until(lambda: hosting.engine.budget.total < 16_384)
        await until(lambda: said(life, "heir cannot be served here yet: it was not admitted within "))
        assert hosting.engine.budget.total == 16_384
