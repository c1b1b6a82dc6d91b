"""What a grader makes of the work that it is sent: nothing is run before all of it is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.errors import LeaderboardError
from gridllm.identity.keys import Identity
from gridllm_leaderboard.grading.work import Assignment, checked_sheet, fetch_sheets, read_work
from gridllm_leaderboard.messages import Task, Work
from gridllm_leaderboard.results import items_root
from gridllm_leaderboard.statements import ItemSet, sign
from gridllm_leaderboard.tasks import from_files, load
from gridllm_leaderboard.tasks.from_text import make_task
from tests.unit.log_heads import NOW, SIGNED, signed_head
from tests.unit.verified_board import AUTHORS, GRADERS, ITEMS, Board, key

GRADER = key(GRADERS[0])


def work_of(board: Board, name: str = "new", **changes: Any) -> Work:
    """What the leaderboard sends a grader of that round."""
    said = board.dossiers[board.ids[name]]
    work = Work(said.rules, said.lock, said.draw, [Task(said.submission, True)])
    return msgspec.structs.replace(work, **changes)


def read(work: Work, grader: str = GRADER) -> Assignment:
    given = read_work(work, SIGNED, grader)
    assert given is not None
    return given


async def no_file(task: str, name: str) -> bytes:
    raise AssertionError(f"{name} of {task} was asked for")


@pytest.fixture(scope="module")
def board() -> Board:
    return Board()


async def test_sound_work_is_drawn_again(board: Board) -> None:
    given = read(work_of(board))
    assert [one.id for one in given.models] == [board.ids["new"]]
    assert given.models[0].serve
    sheets = await fetch_sheets(given, board.lines, no_file, {})
    assert [one.task.name for one in sheets] == [task.name for task in given.rules.tasks]
    assert all(one.drawn_here for one in sheets)
    assert all(len(one.items) == len(one.practice) == ITEMS for one in sheets)


def test_the_champion_is_graded_again_with_the_others(board: Board) -> None:
    assert [one.id for one in read(work_of(board, "old")).models] == [board.ids["old"]]


def test_nobody_grades_a_model_of_their_own(board: Board) -> None:
    assert read(work_of(board), key(AUTHORS["new"])).models == []


def test_nothing_to_do(board: Board) -> None:
    assert read_work(Work(None, None, None, []), SIGNED, GRADER) is None
    with pytest.raises(LeaderboardError, match="without the rules, lock and draw"):
        read_work(work_of(board, draw=None), SIGNED, GRADER)


def test_a_model_that_is_not_in_the_round_is_refused(board: Board) -> None:
    changed = Board({"new": lambda it: it.model_copy(update={"message": "not what was locked"})})
    altered = changed.dossiers[changed.ids["new"]].submission
    with pytest.raises(LeaderboardError, match="not in the round"):
        read_work(work_of(board, tasks=[Task(altered, True)]), SIGNED, GRADER)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("draw", lambda it: it.model_copy(update={"round": 2}), "another round"),
        ("draw", lambda it: it.model_copy(update={"lock": "ab" * 32}), "another round"),
        ("draw", lambda it: it.model_copy(update={"items": it.items[:1]}), "other tasks"),
        ("lock", lambda it: it.model_copy(update={"rules": "ab" * 32}), "other rules"),
        ("draw", lambda it: it.model_copy(update={"head": signed_head(6).decode()}), "later one"),
        ("draw", lambda it: it.model_copy(update={"grid": "ab" * 32}), "another grid"),
    ],
    ids=["round", "lock", "tasks", "rules", "head", "grid"],
)
def test_documents_that_do_not_belong_together(name: str, change: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(LeaderboardError, match=says):
        read_work(work_of(Board({name: change})), SIGNED, GRADER)


@pytest.mark.parametrize("name", ["lock", "draw"])
def test_documents_of_somebody_else(name: str, board: Board) -> None:
    said = read(work_of(board))
    forged = sign(said.lock if name == "lock" else said.draw, Identity.ephemeral())
    with pytest.raises(LeaderboardError, match=f"A {name} cannot be used"):
        read_work(work_of(board, **{name: forged}), SIGNED, GRADER)


async def test_items_that_the_beacon_does_not_give() -> None:
    """The leaderboard draws for a friend: items that the friend's model knows."""

    def favour(items: dict[str, Any]) -> dict[str, Any]:
        return items | {"sums": load("sums").draw(b"a seed of its own", ITEMS)}

    board = Board({"items": favour})
    with pytest.raises(LeaderboardError, match="sums are not those that follow from the beacon"):
        await fetch_sheets(read(work_of(board)), board.lines, no_file, {})


async def test_public_items_are_not_graded() -> None:
    board = Board({"items": lambda items: items | {"sums": load("sums").practice()[:ITEMS]}})
    with pytest.raises(LeaderboardError, match="drawn that are public"):
        await fetch_sheets(read(work_of(board)), board.lines, no_file, {})


async def test_other_lines_than_the_draw_names(board: Board) -> None:
    given = read(work_of(board))
    first, second = (one.root for one in given.draw.items)

    async def swapped(root: str) -> bytes:
        return await board.lines(second if root == first else first)

    with pytest.raises(LeaderboardError, match="not those that the draw names"):
        await fetch_sheets(given, swapped, no_file, {})


def test_a_pool_is_believed_as_far_as_the_draw_names_it(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} says something of its own." for number in range(200))
    make_task([text], tmp_path, name="book", practice=3, size=200, seed=1)
    task = load(tmp_path)
    public = from_files(task.files()["task.yaml"], task.files()["practice.jsonl"])
    items = task.draw(bytes(32), 5)
    drawn = ItemSet(task="book", commitment=task.commitment, root=items_root(items), count=5)
    sheet = checked_sheet(public, drawn, items, bytes(32))
    assert not sheet.drawn_here
    assert list(sheet.practice) == public.practice()
    with pytest.raises(LeaderboardError, match="not in its pool"):
        other = [{"text": "nobody's"}, *items[1:]]
        checked_sheet(task, ItemSet(**drawn.model_dump() | {"root": items_root(other)}), other, bytes(32))
    with pytest.raises(LeaderboardError, match="twice"):
        twice = [items[0], items[0]]
        checked_sheet(public, ItemSet(**drawn.model_dump() | {"root": items_root(twice), "count": 2}), twice, bytes(32))


def test_the_head_is_later_than_the_lock(board: Board) -> None:
    assert read(work_of(board)).lock.issued < NOW + 5
