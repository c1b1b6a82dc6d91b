"""What a grader says, against what it says it of: results against items, a grade's figures against its results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from gridllm.charter.contest import Rules
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.measured import mean, measured
from gridllm_leaderboard.results import ItemResult, Line, digest_of, results_root
from gridllm_leaderboard.statements import Draw, Grade, TaskGrade

SAME: Final = 1e-9  # of two figures that are worked out from the same results


def task_grade(task: str, items: str, results: Sequence[ItemResult]) -> TaskGrade:
    """What a grade says of one task. ``items``: ItemSet.root. Raises LeaderboardError: the results cannot be used."""
    found = measured(results)
    return TaskGrade(
        task=task,
        items=items,
        results=results_root(results),
        count=len(results),
        value=found.value,
        points=mean(found.points),
        stderr=_stderr(found.points.tolist()),
    )


def points_of(item: Line, logliks: Sequence[float]) -> float:
    """Points of one item, 0 to 1: 2^(−bits per byte) of a text; 1 where the likeliest choice is the right one.

    Of choices that are equally likely the first counts as chosen.
    """
    if "text" in item:
        return math.exp(min(0.0, logliks[0]) / size_of(item))
    return float(max(range(len(logliks)), key=lambda index: (logliks[index], -index)) == item["gold"])


def size_of(item: Line) -> int:
    """Bytes of a text, in UTF-8; 1 for a choice."""
    return len(item["text"].encode()) if "text" in item else 1


def verify_results(items: Sequence[Line], results: Sequence[ItemResult], task: str) -> None:
    """Check that these are results of exactly these items, and that their points follow from their log-likelihoods.

    Raises:
        LeaderboardError: names the first that is wrong.
    """
    if len(items) != len(results):
        raise LeaderboardError(f"There are {len(results)} results of the {len(items)} items of the task {task!r}.")
    for number, (item, result) in enumerate(zip(items, results, strict=True), start=1):
        where = f"Result {number} of the task {task!r}"
        if result.item != digest_of(item):
            raise LeaderboardError(f"{where} is of another item than the one drawn.")
        wanted = 1 if "text" in item else len(item["choices"])
        if len(result.logliks) != wanted or not all(map(math.isfinite, result.logliks)):
            raise LeaderboardError(f"{where} has not {wanted} finite log-likelihoods.")
        if result.size != size_of(item):
            raise LeaderboardError(f"{where} says {result.size} bytes; the text has {size_of(item)}.")
        points = points_of(item, result.logliks)
        if abs(result.points - points) > SAME:
            raise LeaderboardError(f"{where} says {result.points} points; its log-likelihoods make {points}.")


def verify_grade(grade: Grade, rules: Rules, draw: Draw, results: Mapping[str, Sequence[ItemResult]]) -> None:
    """Check that a grade is of the draw's tasks and items, by one of the rules' graders, and says what its results say.

    Args:
        results: by task; that they are of the items, ``verify_results`` checks.

    Raises:
        LeaderboardError: names the first that is wrong.
    """
    if grade.grader not in rules.graders:
        raise LeaderboardError(f"A grade is by {grade.grader[:16]}…, who is no grader by the rules.")
    if [one.task for one in grade.tasks] != [one.task for one in draw.items]:
        raise LeaderboardError("A grade is not of exactly the round's tasks, in their order.")
    for said, drawn in zip(grade.tasks, draw.items, strict=True):
        if (said.items, said.count) != (drawn.root, drawn.count):
            raise LeaderboardError(f"A grade of the task {said.task!r} is of other items than the round's.")
        found = task_grade(said.task, said.items, results.get(said.task, ()))
        if (found.results, found.count) != (said.results, said.count):
            raise LeaderboardError(f"The results of the task {said.task!r} are not the ones that the grade names.")
        for name in ("value", "points", "stderr"):
            claim, fact = getattr(said, name), getattr(found, name)
            if not math.isclose(claim, fact, rel_tol=SAME, abs_tol=SAME):
                raise LeaderboardError(
                    f"A grade says {name} {claim} of the task {said.task!r}; its own results make {fact}."
                )


def _stderr(points: Sequence[float]) -> float:
    """Standard error of the mean; 0 of a single item."""
    if len(points) < 2:
        return 0.0
    middle = math.fsum(points) / len(points)
    return math.sqrt(math.fsum((one - middle) ** 2 for one in points) / (len(points) - 1) / len(points))
