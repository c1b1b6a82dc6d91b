"""Made-up rounds: models with known chances, graded by whoever is asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence

from gridllm_leaderboard.ranking.judge import Graded, RoundFacts
from gridllm_leaderboard.ranking.points import grade_of
from gridllm_leaderboard.results import ItemResult
from gridllm_leaderboard.statements import Failure, Grade
from gridllm_leaderboard.tasks.taskfile import Kind

Results = dict[str, list[ItemResult]]
WEIGHTS = {"facts": 1, "stories": 2}
KINDS: dict[str, Kind] = {"facts": "choice", "stories": "text"}


def named(name: str) -> str:
    """A digest, or a key, for a name."""
    return hashlib.sha256(name.encode()).hexdigest()


def choices(points: Sequence[float]) -> list[ItemResult]:
    """Results of a choice task."""
    return [
        ItemResult(named(f"choice {number}"), float(one), [-1.0, -2.0] if one else [-2.0, -1.0], 1)
        for number, one in enumerate(points)
    ]


def texts(bits_per_byte: Sequence[float]) -> list[ItemResult]:
    """Results of a text task of 100 bytes an item."""
    return [
        ItemResult(named(f"text {number}"), 2.0**-one, [-one * 100 * math.log(2)], 100)
        for number, one in enumerate(bits_per_byte)
    ]


def model(
    rng: random.Random, right: float, bits: float, items: int = 100, easy: Sequence[float] | None = None
) -> Results:
    """One model's results on as many items of each task.

    Args:
        right: its chance of an item of ``facts``.
        bits: what a byte of ``stories`` costs it on average.
        easy: by item, what all models find easy or hard alike.
    """
    shift = easy or [0.0] * items
    return {
        "facts": choices([float(rng.random() < right + one) for one in shift]),
        "stories": texts([max(0.01, rng.gauss(bits - one, 0.2)) for one in shift]),
    }


def graded(submission: str, results: Mapping[str, list[ItemResult]], grader: str = "grader", issued: int = 1) -> Graded:
    """A grade of ``submission`` (a name)."""
    grade = Grade(
        grid=named("grid"),
        round=1,
        draw=named("draw"),
        submission=named(submission),
        root=named(f"root of {submission}"),
        grader=named(grader),
        harness="lm_eval 0.4.13",
        dtype="float32",
        via="local",
        tasks=tuple(grade_of(task, KINDS[task], named(task), results[task]) for task in sorted(results)),
        issued=issued,
    )
    return Graded(named(f"{submission} by {grader} at {issued}"), grade, results)


def failure(submission: str, grader: str = "grader") -> Failure:
    """A grader could not run it."""
    return Failure(
        grid=named("grid"),
        round=1,
        draw=named("draw"),
        submission=named(submission),
        grader=named(grader),
        reason="it takes 80 GB",
        issued=1,
    )


def facts(
    grades: Sequence[Graded], submissions: Sequence[str], champion: str | None = None, **changes: object
) -> RoundFacts:
    """A round of these submissions (names), graders "grader", "second", "third" and a quorum of one."""
    base = RoundFacts(
        round=1,
        draw=named("draw"),
        weights=WEIGHTS,
        submissions=tuple(sorted(map(named, submissions))),
        champion=None if champion is None else named(champion),
        authors={named(one): named(f"author of {one}") for one in [*submissions, *([champion] if champion else [])]},
        eligible={named(one) for one in [*submissions, *([champion] if champion else [])]},
        graders=tuple(named(one) for one in ("grader", "second", "third")),
        quorum=1,
        grades=tuple(grades),
        failures=(),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def lied(results: Results, rng: random.Random, share: float, lie: Callable[[float], float]) -> Results:
    """The same with other points for ``share`` of the items."""

    def told(one: ItemResult) -> ItemResult:
        return with_points(one, lie(one.points)) if rng.random() < share else one

    return {task: [told(one) for one in ones] for task, ones in results.items()}


def with_points(one: ItemResult, points: float) -> ItemResult:
    """A result with other points."""
    return ItemResult(one.item, points, one.logliks, one.size)
