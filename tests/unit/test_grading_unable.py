"""A grader that is not able to grade a model says so, signs nothing against it, and takes it up with other means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.pin import Pins
from gridllm.errors import Insufficient, ModelError, SwarmError
from gridllm_leaderboard.grading import unable
from gridllm_leaderboard.grading.child import Fault, fault_of
from gridllm_leaderboard.grading.grader import Grader, PutOffError
from gridllm_leaderboard.grading.limits import SPARE_BYTES, held_parameters, needed_bytes
from gridllm_leaderboard.grading.plan import Means
from gridllm_leaderboard.grading.preparing import Ways
from gridllm_leaderboard.grading.running import CannotRunError
from gridllm_leaderboard.grading.unable import KEEP_S, KEEP_UNPAID_S, LOOK_EVERY_S, PATIENCE_S, UnableError, Unables
from gridllm_leaderboard.grading.watching import Told, grade_all
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import Beyond
from tests.unit.leaderboard_house import House, house

A, B = "a" * 64, "b" * 64
GB = 10**9
MEANS = Means("auto", 4 * GB, "float32", "cpu", 1)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_given_up_is_kept_for_a_week_or_until_there_are_other_means(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "unable.json"
    unables = Unables(path, "4 GB", clock)
    unables.give_up(A, "it ran out of memory" * 99)
    clock.now += 1
    unables.give_up(B, "too slow")
    kept = Unables(path, "4 GB", clock).final()
    assert list(kept) == [B, A] and len(kept[A].why) == 200
    assert Unables(path, "8 GB", clock).final() == {}
    unables.forget(B)
    assert list(unables.final()) == [A]
    clock.now += KEEP_S
    assert unables.final() == {}
    path.write_bytes(b"{rotten")
    assert unables.final() == {}


def test_nodes_are_waited_for_and_looked_for_now_and_again(tmp_path: Path) -> None:
    clock = Clock()
    unables = Unables(tmp_path / "unable.json", "4 GB", clock)
    assert not unables.lacks(A, "no nodes", nodes=True) and unables.final() == {} and unables.to_look_for() == []
    clock.now += PATIENCE_S - 1
    assert not unables.lacks(A, "no nodes", nodes=True)
    clock.now += 1
    assert unables.lacks(A, "no nodes", nodes=True) and list(unables.final()) == [A]
    assert unables.to_look_for() == []
    clock.now += LOOK_EVERY_S
    assert unables.to_look_for() == [A] and unables.to_look_for() == []
    unables.forget(A)
    assert not unables.lacks(A, "no nodes", nodes=True)  # the hour begins anew
    clock.now += PATIENCE_S
    assert unables.lacks(A, "no credit", nodes=False)
    clock.now += KEEP_UNPAID_S - 1
    assert list(unables.final()) == [A] and unables.to_look_for() == []
    clock.now += 1
    assert unables.final() == {}


@pytest.mark.parametrize("memory", [SPARE_BYTES // 2, SPARE_BYTES, 4 * GB, 80 * GB])
def test_what_a_grader_says_it_holds_fits(memory: int) -> None:
    held = held_parameters(memory, "float32")
    assert held == 0 or needed_bytes(held, "float32") <= memory < needed_bytes(held + 2, "float32")
    assert dataclasses.replace(MEANS, way="grid").holds == 0
    assert dataclasses.replace(MEANS, memory_bytes=memory).holds == held


@pytest.mark.parametrize(
    ("error", "here", "there"),
    [
        pytest.param(ModelError("No peer sends the manifest."), "model", "grid", id="files"),
        pytest.param(SwarmError("No chain."), "grid", "grid", id="nodes"),
        pytest.param(Insufficient("The balance does not cover it."), "credit", "credit", id="credit"),
        pytest.param(MemoryError(), "memory", "memory", id="memory"),
        pytest.param(OSError(28, "No space left on device"), "machine", "machine", id="disk"),
        pytest.param(ZeroDivisionError("division by zero"), "model", "model", id="computing"),
    ],
)
def test_whose_fault_it_is(error: Exception, here: Fault, there: Fault) -> None:
    assert (fault_of(error, "local").fault, fault_of(error, "grid").fault) == (here, there)


def faulty(fault: Fault) -> Callable[..., Any]:
    async def run(*_: object) -> Any:
        raise CannotRunError(fault, "it did not come to its end")

    return run


async def grader_in(made: House, folder: Path, means: Means = MEANS) -> tuple[Grader, LeaderboardLink]:
    """The house's grader, and its line to the leaderboard."""
    swarm = made.network.peek(made.grader.peer) or made.network.join(made.grader)
    found = made.network.find(made.peer)
    assert made.board.rules is not None
    link = LeaderboardLink(swarm, made.signed, made.board, made.board.rules, made.peer, found.addresses)
    pins = Pins(folder / "grader")
    return Grader(made.grader, pins, folder / "cache", means, Ways(folder, "x", None), clock=made.clock), link


async def troubles_of(grader: Grader, link: LeaderboardLink) -> tuple[list[str], list[Beyond]]:
    """One run of ``gridllm leaderboard grade`` that cannot do all it is asked: what its owner is told."""
    troubles: list[str] = []
    beyond: list[Beyond] = []
    with pytest.raises((UnableError, PutOffError)):
        await grade_all(link, grader, {}, Told(lambda _: None, troubles.append, beyond.extend))
    return troubles, beyond


@pytest.mark.parametrize("fault", ["memory", "killed", "time"])
async def test_a_grader_that_runs_out_signs_nothing_and_the_model_waits_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(Grader, "_run", faulty(fault))
    async with house(tmp_path) as made:
        id_ = await made.submit(1)
        await made.until_told("drawn")
        grader, link = await grader_in(made, tmp_path)
        troubles, beyond = await troubles_of(grader, link)
        assert "'model 1' is beyond this grader: it did not come to its end. Nothing is signed" in troubles[0]
        assert [one.name for one in beyond] == ["model 1"]
        assert (await made.until_told("deferred"))["submission"] == id_
        view = await made.until_why(id_, "since it did not come to its end")
        assert (view.state, view.round) == ("queued", 0)
        assert await grader.assignment(link) == (None, beyond)  # told again, by whoever starts it again
        richer, _ = await grader_in(made, tmp_path, dataclasses.replace(MEANS, memory_bytes=8 * GB))
        assert (await richer.assignment(link))[1] == []
        await made.until(id_, "locked")


async def test_a_model_without_nodes_is_waited_for_before_it_leaves_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grader, "_run", faulty("grid"))
    async with house(tmp_path) as made:
        grader, link = await grader_in(made, tmp_path, dataclasses.replace(MEANS, way="grid"))
        assert await grader.assignment(link) == (None, [])
        id_ = await made.submit(1)
        await made.until_told("listed")
        await made.until_told("drawn")
        troubles, beyond = await troubles_of(grader, link)
        assert "gridllm serve --model 'model 1'" in troubles[0] and beyond == []
        monkeypatch.setattr(unable, "PATIENCE_S", 0)  # an hour later
        troubles, _ = await troubles_of(grader, link)
        assert "The leaderboard is told, and nobody waits" in troubles[0]
        view = await made.until_why(
            id_, "nodes did not run it for 1 h; volunteers serve it with: gridllm serve --model 'model 1'"
        )
        assert view.state == "queued"
