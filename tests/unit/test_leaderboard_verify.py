"""``verify``: a sound round passes, and each link of the chain that is forged or altered is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gridllm.errors import NotHeld, SwarmError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import read_unverified
from gridllm_leaderboard.contamination import overlaps_of
from gridllm_leaderboard.results import ItemResult, Line
from gridllm_leaderboard.statements import TYPES, Grade, Withdrawal, sign
from gridllm_leaderboard.tasks import from_files
from gridllm_leaderboard.verifying.examine import Found, examine
from gridllm_leaderboard.verifying.walk import UnsoundError, Walk
from tests.unit.graded_rounds import named, with_points
from tests.unit.log_heads import NOW, OTHER, SIGNED, signed_head
from tests.unit.verified_board import ACCOUNT, AUTHORS, GRADERS, TASKS, Board, key

STRANGER = Identity.ephemeral()


async def _examined(board: Board, name: str = "new") -> tuple[Walk, Found]:
    walk = Walk()
    return walk, await examine(board, SIGNED, board.ids[name], walk)


async def _wrong(board: Board, name: str = "new") -> str:
    """What is named; and the last check says it."""
    walk = Walk()
    with pytest.raises(UnsoundError) as caught:
        await examine(board, SIGNED, board.ids[name], walk)
    assert walk.checks[-1].outcome == "wrong"
    assert all(one.outcome != "wrong" for one in walk.checks[:-1])
    assert walk.checks[-1].what in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["new", "old"])
async def test_a_sound_round_passes(name: str) -> None:
    walk, found = await _examined(Board(), name)
    assert [one.outcome for one in walk.checks] == ["sound"] * len(walk.checks)
    assert len(walk.checks) == 12
    assert len(found.grades) == 3
    assert re.fullmatch(r"20 drawn again from the seed; \d+ of them share a run of 13 words .*", walk.checks[5].detail)


def update(**fields: Any) -> Callable[[Any], Any]:
    """Other fields in a document."""
    return lambda document: document.model_copy(update=fields)


def _grade_line(**fields: Any) -> Callable[[Any], Any]:
    def altered(grade: Any) -> Any:
        return grade.model_copy(update={"tasks": (grade.tasks[0].model_copy(update=fields), *grade.tasks[1:])})

    return altered


def _easier(items: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Items that the leaderboard picked itself."""
    return items | {"sums": TASKS["sums"].draw(b"another seed", 20)}


def _public(items: dict[str, list[Line]]) -> dict[str, list[Line]]:
    return items | {"sums": [*items["sums"][1:], TASKS["sums"].practice()[0]]}


def _better(results: dict[str, list[ItemResult]]) -> dict[str, list[ItemResult]]:
    """Points that do not follow from log-likelihoods."""
    return results | {"sums": [with_points(one, 1.0) for one in results["sums"]]}


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        ({"lock": update(rules=named("else"))}, "names other rules"),
        ({"lock": update(submissions=(named("else"),))}, "does not hold the submission"),
        ({"lock": update(keeper=key(OTHER))}, "log; the lock names"),
        ({"lock": update(issued=NOW + 5)}, "items are drawn from a later one only"),
        ({"lock": update(size=10)}, "items are drawn from a later one only"),
        ({"head": lambda _: signed_head(9, keeper=STRANGER, issued=NOW + 5)}, "no keeper of this grid"),
        ({"head": lambda raw: raw.replace(b'"sig":"', b'"sig":"00')}, "the head and the draw"),
        ({"draw": update(lock=named("else"))}, "of another lock"),
        ({"draw": update(round=2)}, "of another lock"),
        ({"draw": lambda it: it.model_copy(update={"items": it.items[::-1]})}, "not those of the rules"),
        ({"items": _easier}, "Other items of the task 'sums' follow from the round's seed"),
        ({"items": _public}, "1 items of the task 'sums' are public ones"),
        ({"results of new": _better}, "its log-likelihoods make"),
        ({"grade of new": _grade_line(points=0.99)}, "says points 0.99"),
        ({"grade of new": _grade_line(value=0.0)}, "says value 0.0"),
        ({"grade of old": _grade_line(stderr=0.4)}, "says stderr 0.4"),
        ({"grade of new": _grade_line(items=named("else"))}, "other items than the round's"),
        ({"grade of new": update(root=named("else"))}, "of another model"),
        ({"grade of new": update(draw=named("else"))}, "of another draw"),
        ({"verdict": update(champion=None, changed=False)}, "says champion None"),
        ({"verdict": update(changed=False)}, "says changed False"),
        ({"verdict": update(grades=())}, "The verdict says grades"),
        ({"verdict": update(draw=named("else"))}, "of another draw"),
        ({"verdict": update(comparisons=())}, "compares models with the champion otherwise"),
    ],
)
async def test_what_a_cheating_leaderboard_signs_is_named(alter: dict[str, Any], says: str) -> None:
    assert says in await _wrong(Board(alter))


@pytest.mark.parametrize("name", ["new", "lock", "draw", "grade of new", "grade of old", "verdict"])
async def test_what_another_signed_is_forged(name: str) -> None:
    board = Board()
    forged = _Forged(name)
    assert "forged" in await _wrong(forged)
    assert board.ids == forged.ids


class _Forged(Board):
    """One document is signed by a stranger."""

    def __init__(self, name: str) -> None:
        self._forged = name
        super().__init__()

    def _made(self, name: str, document: Any, signer: Identity) -> tuple[Any, bytes]:
        return super()._made(name, document, STRANGER if name == self._forged else signer)


async def test_rules_of_strangers_are_no_rules() -> None:
    board = Board()
    board.changed("new", rules=None)
    assert "does not show the rules" in await _wrong(board)
    board.changed("new", rules=board.dossiers[board.ids["new"]].lock)
    assert "the maintainers' signatures on the rules" in await _wrong(board)


async def test_authors_do_not_grade_themselves() -> None:
    board = Board(
        {
            "rules": update(graders=(*map(key, GRADERS), key(AUTHORS["new"]))),
            "grade of new": update(grader=key(AUTHORS["new"])),
        }
    )
    assert "forged" in await _wrong(board)
    signed_by_author = _SelfGraded()
    assert "The author of 'new' graded it" in await _wrong(signed_by_author)


class _SelfGraded(Board):
    """A grade that is truly the author's."""

    def __init__(self) -> None:
        author = key(AUTHORS["new"])
        graders = (*map(key, GRADERS), author)
        super().__init__({"rules": update(graders=graders), "grade of new": update(grader=author)})

    def _made(self, name: str, document: Any, signer: Identity) -> tuple[Any, bytes]:
        return super()._made(name, document, AUTHORS["new"] if name == "grade of new" else signer)


async def test_what_is_shown_is_what_was_signed() -> None:
    for field, value in (("name", "better"), ("account", named("thief")), ("parameters", 1), ("serve", False)):
        board = Board()
        view = msgspec.structs.replace(board.dossiers[board.ids["new"]].view, **{field: value})
        board.changed("new", view=view)
        assert f"shows another {field}" in await _wrong(board)


async def test_another_submission_is_not_the_one_asked_for() -> None:
    board = Board()
    board.dossiers[board.ids["new"]] = board.dossiers[board.ids["old"]]
    assert "was asked for" in await _wrong(board)


async def test_lists_that_were_swapped_or_cut() -> None:
    board = Board()
    for root, original in list(board.lists.items()):
        lines = original.splitlines(keepends=True)
        for spoilt in (b"".join(lines[:-1]), b"".join(lines[::-1]), b"{}\n", b"\xff\n"):
            board.lists[root] = spoilt
            await _wrong(board)
        board.lists[root] = original
    await _examined(board)


async def test_a_grade_that_is_hidden_or_results_that_are_withheld() -> None:
    board = Board()
    mine = board.dossiers[board.ids["new"]]
    board.changed("new", grades=mine.grades[1:])
    assert "1 grades that the leaderboard does not show" in await _wrong(board)
    board = Board()

    async def lines(root: str) -> bytes:
        raise NotHeld(f"The leaderboard holds no list {root[:16]}….")

    board.lines = lines  # type: ignore[method-assign]
    assert "holds no list" in await _wrong(board)


async def test_a_grade_that_came_too_late_changes_nothing() -> None:
    fourth = Identity.ephemeral()
    late = Board({"rules": update(graders=(*map(key, GRADERS), key(fourth)))})
    grades = late.dossiers[late.ids["new"]].grades
    first, _ = read_unverified(grades[0], Grade, TYPES[Grade])
    again = first.model_copy(update={"grader": key(fourth), "issued": NOW + 20})
    late.changed("new", grades=[*grades, sign(again, fourth)])
    walk, _ = await _examined(late)
    assert "1 more came too late" in next(one.detail for one in walk.checks if one.what == "the verdict")


async def test_two_stories_about_one_round() -> None:
    board, other = Board(), Board({"verdict": update(issued=NOW + 99)})
    board.dossiers[board.ids["old"]] = other.dossiers[other.ids["old"]]
    assert "About 'old' the leaderboard shows another round 1" in await _wrong(board)


async def test_what_was_learnt_by_heart_is_told_as_graders_found_it() -> None:
    def practised(points: float) -> Callable[[Any], Any]:
        def altered(grade: Any) -> Any:
            easy = grade.tasks[0].model_copy(update={"points": points, "stderr": 0.0})
            return grade.model_copy(update={"practice": (easy,)})

        return altered

    board = Board({"grade of old": practised(1.0)})
    board.changed("old", overlaps={"sums": 0.2})
    assert "It says 0.2 of the task 'sums'; from the grades follows" in await _wrong(board, "old")
    board.changed("old", overlaps={})
    assert "It says None of the task 'sums'" in await _wrong(board, "old")
    _, found = await _examined(Board(), "old")
    grades = [practised(1.0)(one) for one in found.grades]
    assert overlaps_of(grades)["sums"] > 0.2


async def test_the_ranking_shows_what_follows() -> None:
    board = Board()
    id_ = board.ids["new"]
    row = board.rows[id_]
    board.rows[id_] = msgspec.structs.replace(row, score=msgspec.structs.replace(row.score, value=99.0))
    assert "The ranking shows" in await _wrong(board)
    board.rows[id_] = msgspec.structs.replace(row, round=2)  # judged meanwhile: nothing to compare, and said so
    walk, _ = await _examined(board)
    assert "it shows round 2 by now" in walk.checks[-1].detail and walk.checks[-1].outcome == "left out"
    board.rows[id_] = msgspec.structs.replace(row, tasks={"sums": row.tasks["sums"]})
    assert "shows stories in round 1, or its results do" in await _wrong(board)
    del board.rows[id_]
    assert "The ranking lacks it" in await _wrong(board)


async def test_what_cannot_be_checked_is_said() -> None:
    board = Board()
    files = TASKS["sums"].files()
    del board.tasks["stories"]
    walk, _ = await _examined(board)
    assert [one.detail for one in walk.checks if one.outcome == "left out"] == [
        "its public files are not to be had, or were changed since"
    ]
    board.tasks["stories"] = from_files(files["task.yaml"], files["practice.jsonl"])
    assert "not those that the rules commit to" in await _wrong(board)


async def test_what_is_not_graded_yet_is_checked_as_far_as_it_went() -> None:
    board = Board()
    for fields, left in (
        ({"verdict": None}, "the verdict"),
        ({"draw": None, "grades": []}, "the draw"),
        ({"lock": None, "rules": None}, "the round"),
    ):
        for name in AUTHORS:
            board.changed(name, **fields)
        walk, _ = await _examined(board)
        assert (walk.checks[-1].what, walk.checks[-1].outcome) == (left, "left out")


async def test_a_network_that_fails_proves_nothing() -> None:
    board = Board()

    async def dossier(_id: str, _round: int) -> Any:
        raise SwarmError("Nobody answers.")

    board.dossier = dossier  # type: ignore[method-assign]
    with pytest.raises(SwarmError):
        await _examined(board)


async def test_withdrawals_are_the_authors() -> None:
    board = Board()
    mine = Withdrawal(grid=SIGNED.grid, account=key(AUTHORS["new"]), submission=board.ids["new"], issued=NOW)
    board.changed("new", withdrawal=sign(mine, AUTHORS["new"]))
    await _examined(board)
    other = mine.model_copy(update={"account": key(ACCOUNT)})
    board.changed("new", withdrawal=sign(other, ACCOUNT))
    assert "not by this submission's author" in await _wrong(board)
