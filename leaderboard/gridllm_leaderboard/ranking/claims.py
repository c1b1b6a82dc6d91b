"""What a grader says, against what it says it of: results against items, a grade's figures against its results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from gridllm.charter.contest import Rules
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.points import grade_of, result_of
from gridllm_leaderboard.results import ItemResult, Line
from gridllm_leaderboard.statements import Draw, Grade
from gridllm_leaderboard.tasks.taskfile import Kind

SAME: Final = 1e-9  # of two figures that are worked out from the same results


def verify_results(kind: Kind, items: Sequence[Line], results: Sequence[ItemResult], task: str) -> None:
    """Check that these are results of exactly these items, and that their points follow from their log-likelihoods.

    Raises:
        LeaderboardError: names the first that is wrong.
    """
    if len(items) != len(results):
        raise LeaderboardError(f"There are {len(results)} results of the {len(items)} items of the task {task!r}.")
    for number, (item, said) in enumerate(zip(items, results, strict=True), start=1):
        where = f"Result {number} of the task {task!r}"
        try:
            found = result_of(kind, item, said.logliks)
        except LeaderboardError as error:
            raise LeaderboardError(f"{where} cannot be used: {error}") from error
        if said.item != found.item:
            raise LeaderboardError(f"{where} is of another item than the one drawn.")
        if said.size != found.size:
            raise LeaderboardError(f"{where} says {said.size} bytes; the item has {found.size}.")
        if abs(said.points - found.points) > SAME:
            raise LeaderboardError(f"{where} says {said.points} points; its log-likelihoods make {found.points}.")


def verify_grade(grade: Grade, rules: Rules, draw: Draw, results: Mapping[str, Sequence[ItemResult]]) -> None:
    """Check that a grade is of the draw's tasks and items, by one of the rules' graders, and says what its results say.

    Args:
        results: by task; that they are of the items, ``verify_results`` checks.

    Raises:
        LeaderboardError: names the first that is wrong.
    """
    kinds = {task.name: task.kind for task in rules.tasks}
    if grade.grader not in rules.graders:
        raise LeaderboardError(f"A grade is by {grade.grader[:16]}…, who is no grader by the rules.")
    if [one.task for one in grade.tasks] != [one.task for one in draw.items]:
        raise LeaderboardError("A grade is not of exactly the round's tasks, in their order.")
    for said, drawn in zip(grade.tasks, draw.items, strict=True):
        if (said.items, said.count) != (drawn.root, drawn.count):
            raise LeaderboardError(f"A grade of the task {said.task!r} is of other items than the round's.")
        lines = results.get(said.task, ())
        if len(lines) != said.count or said.task not in kinds:
            raise LeaderboardError(f"A grade says {said.count} results of the task {said.task!r}; it has {len(lines)}.")
        found = grade_of(said.task, kinds[said.task], said.items, lines)
        if found.results != said.results:
            raise LeaderboardError(f"The results of the task {said.task!r} are not the ones that the grade names.")
        for name in ("value", "points", "stderr"):
            claim, fact = getattr(said, name), getattr(found, name)
            if not math.isclose(claim, fact, rel_tol=SAME, abs_tol=SAME):
                raise LeaderboardError(
                    f"A grade says {name} {claim} of the task {said.task!r}; its own results make {fact}."
                )
