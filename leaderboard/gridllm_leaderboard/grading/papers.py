"""What a grader says of a model, before it signs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.grading.job import Via
from gridllm_leaderboard.grading.running import Ran
from gridllm_leaderboard.grading.work import Assignment, Sheet, Wanted
from gridllm_leaderboard.ranking.points import grade_of
from gridllm_leaderboard.results import digest_of, items_root
from gridllm_leaderboard.statements import Failure, Grade, TaskGrade, id_of

PRACTICE: Final = ".practice"  # after a list's name: the public items, for the report
MAX_REASON: Final = 500


def grade_said(
    given: Assignment, model: Wanted, sheets: Sequence[Sheet], ran: Ran, grader: str, via: Via, now: int
) -> Grade:
    """The grade. Raises LeaderboardError: the results are not of these items."""
    return Grade(
        grid=given.lock.grid,
        round=given.lock.round,
        draw=id_of(given.draw),
        submission=model.id,
        root=model.submission.root,
        grader=grader,
        harness=ran.harness,
        dtype=ran.dtype,
        via=via,
        tasks=tuple(_line(sheet, ran, practice=False) for sheet in sheets),
        practice=tuple(_line(sheet, ran, practice=True) for sheet in sheets),
        issued=now,
    )


def failure_said(given: Assignment, model: Wanted, why: str, grader: str, now: int) -> Failure:
    """That it could not be graded."""
    return Failure(
        grid=given.lock.grid,
        round=given.lock.round,
        draw=id_of(given.draw),
        submission=model.id,
        grader=grader,
        reason=f"The model could not be graded: {why}"[:MAX_REASON],
        issued=now,
    )


def _line(sheet: Sheet, ran: Ran, *, practice: bool) -> TaskGrade:
    name = sheet.task.name
    items, results = (sheet.practice, ran.results[name + PRACTICE]) if practice else (sheet.items, ran.results[name])
    if [one.item for one in results] != [digest_of(item) for item in items]:
        raise LeaderboardError(f"The results of {name} are not of the items that were asked.")
    return grade_of(name, sheet.task.kind, items_root(items) if practice else sheet.root, results)
