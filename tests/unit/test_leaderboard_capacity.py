"""Who is able to grade what: pure decisions about what waits, what is deferred, and what needs nodes. No process."""

from __future__ import annotations

from typing import Any

import pytest

from gridllm.charter.contest import Rules, TaskRule
from gridllm_leaderboard.desk.capacity import (
    WAITS,
    Capacity,
    Need,
    capacity_of,
    need_of,
    spelled,
    through_grid,
    why_not,
)
from gridllm_leaderboard.messages import AskWork, Unable, pack, unpack
from gridllm_leaderboard.statements import Submission
from tests.leaderboard_seasons import GRID, LEADERBOARD, NOW, digest, submitted

A, B, C = (digest("grader", number) for number in range(3))
HUGE = digest("huge", 1)
SMALL_MACHINE, LARGE_MACHINE = Capacity(10**9, grid=False, heard=NOW), Capacity(10**11, grid=False, heard=NOW)
THROUGH = Capacity(10**9, grid=True, heard=NOW)


def said(**changes: Any) -> Submission:
    """Of 20 billion parameters in 40 GB."""
    sizes = {"parameters": 20 * 10**9, "size": 40 * 10**9, "serve": True}
    return submitted(1).submission.model_copy(update=sizes | changes)


def unable(one: Capacity, why: str) -> Capacity:
    return Capacity(one.holds, one.grid, one.heard, {HUGE: why})


@pytest.mark.parametrize(
    ("need", "known", "why"),
    [
        pytest.param(Need((A, B), 0, 1), {}, "", id="nobody was heard"),
        pytest.param(Need((A,), 0, 1), {A: LARGE_MACHINE}, "", id="it fits"),
        pytest.param(
            Need((A,), 0, 1),
            {A: SMALL_MACHINE},
            "a grader that can hold 40.0 GB; the largest that asks holds 2.0 GB.",
            id="too large",
        ),
        pytest.param(
            Need((A, B), 0, 1), {A: SMALL_MACHINE}, "a grader that can hold 40.0 GB", id="another never asked"
        ),
        pytest.param(Need((A, B), 0, 1), {A: SMALL_MACHINE, B: LARGE_MACHINE}, "", id="one of two"),
        pytest.param(
            Need((A, B), 0, 2), {A: SMALL_MACHINE, B: LARGE_MACHINE}, "another grader that can hold", id="one too few"
        ),
        pytest.param(Need((A, B, C), 0, 2), {A: SMALL_MACHINE, B: LARGE_MACHINE}, "", id="the third may be able to"),
        pytest.param(Need((B,), 1, 2), {B: SMALL_MACHINE}, "another grader", id="half is done"),
        pytest.param(Need((), 1, 1), {}, "", id="all is done"),
        pytest.param(Need((A,), 0, 1), {A: THROUGH}, "", id="through the grid"),
        pytest.param(
            Need((A,), 0, 1),
            {A: unable(LARGE_MACHINE, "it ran out of memory")},
            "cannot, since it ran out of memory.",
            id="it was tried",
        ),
    ],
)
def test_why_a_model_waits(need: Need, known: dict[str, Capacity], why: str) -> None:
    found = why_not(HUGE, said(), need, known)
    assert why in found and bool(found) == bool(why)
    assert not why or found.startswith(WAITS)


def test_what_its_author_keeps_does_not_go_through_the_grid() -> None:
    found = why_not(HUGE, said(serve=False), Need((A,), 0, 1), {A: THROUGH})
    assert found.endswith("holds 2.0 GB, and its author does not let the grid run it.")
    assert not through_grid(HUGE, said(serve=False), Need((A,), 0, 1), {A: THROUGH})


def test_nodes_are_wanted_where_no_grader_holds_the_model() -> None:
    one, model = Need((A,), 0, 1), said()
    assert through_grid(HUGE, model, one, {A: THROUGH})
    assert not through_grid(HUGE, model, one, {A: LARGE_MACHINE})
    assert not through_grid(HUGE, model, one, {A: SMALL_MACHINE})  # it would not ask the grid
    assert not through_grid(HUGE, model, one, {})
    both = {A: THROUGH, B: LARGE_MACHINE}
    assert not through_grid(HUGE, model, Need((A, B), 0, 1), both)
    assert through_grid(HUGE, model, Need((A, B), 0, 2), both)


def test_what_a_model_needs() -> None:
    task = TaskRule(name="sums", kind="choice", commitment="5" * 64, items=20)
    rules = Rules(
        grid=GRID,
        serial=1,
        issued=NOW,
        account=LEADERBOARD.public_key.hex(),
        graders=(A, B, C),
        quorum=3,
        tasks=(task,),
    )
    assert need_of(rules, "0" * 64) == Need([A, B, C], 0, 3)
    assert need_of(rules, A) == Need([B, C], 0, 2)  # its author grades it not
    assert need_of(rules, "0" * 64, {A, B}) == Need([C], 2, 3)
    assert need_of(rules, "0" * 64, {A, B}, more=1) == Need([C], 2, 3)
    assert need_of(rules, "0" * 64, {A, B, C}) == Need([], 3, 3)
    two = rules.model_copy(update={"quorum": 2})
    assert need_of(two, "0" * 64, least=3).all == 3 and need_of(two, A, least=3).all == 2  # no more than there are


def test_a_question_tells_what_its_grader_is_able_to_do_and_an_older_one_anything() -> None:
    asked = unpack(pack(AskWork(b"x", 10**9, False, [Unable(HUGE, "too slow")])), AskWork)
    capacity = capacity_of(asked, NOW)
    assert capacity == unable(SMALL_MACHINE, "too slow")
    assert not capacity.able(HUGE, said(parameters=5)) and capacity.able(digest("small", 1), said(parameters=5))
    assert capacity.silent == capacity_of(asked, NOW + 5).silent and spelled(capacity) != spelled(capacity.silent)
    assert capacity_of(AskWork(b"x"), NOW).able(HUGE, said(serve=False))
