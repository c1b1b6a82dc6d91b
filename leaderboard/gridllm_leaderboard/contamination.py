"""Signs that a score was learnt by heart: what can be measured, and no more. Pure.

Two things are measured. **A model's advantage on public items**: practice items and the round's sealed ones are drawn
alike, so that a model that never saw either finds both equally hard. One that does better on the public ones than
noise explains has learnt those; its place, which sealed items alone decide, is no better for it. **What items share**:
runs of words that stand in a sealed item and in a public one, or in another round's: a task that repeats itself.

Nothing here can tell whether a model saw the sealed items' source elsewhere (real text has other readers, too).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, NamedTuple

from gridllm_leaderboard.results import Line
from gridllm_leaderboard.statements import Grade, TaskGrade
from gridllm_leaderboard.tasks.items import words_of

RUN_WORDS: Final = 13  # that two texts hardly have in common by chance (Brown et al. 2020, appendix C)
SURE: Final = 3.0  # standard errors: one honest model in a thousand is suspected for nothing, for each task


class Advantage(NamedTuple):
    """Points on public items minus points on sealed ones; ``low`` and ``high`` bound it at ``SURE``."""

    value: float
    low: float
    high: float


def advantage(practice: TaskGrade, sealed: TaskGrade) -> Advantage:
    """How much better a model is on one task's public items."""
    value = practice.points - sealed.points
    error = SURE * math.hypot(_error(practice), _error(sealed))
    return Advantage(value, value - error, value + error)


def advantages(grade: Grade) -> dict[str, Advantage]:
    """By task, as one grader found them."""
    sealed = {one.task: one for one in grade.tasks}
    return {one.task: advantage(one, sealed[one.task]) for one in grade.practice if one.task in sealed}


def overlaps_of(grades: Sequence[Grade]) -> dict[str, float]:
    """The report on one submission, by task: the points (0 to 1) that it has too many on public items, at least.

    0: nothing beyond noise. Above: it has seen these items. The median over graders.
    """
    found: dict[str, list[float]] = {}
    for grade in grades:
        for task, one in advantages(grade).items():
            found.setdefault(task, []).append(max(0.0, one.low))
    return {task: median(lows) for task, lows in sorted(found.items())}


def runs_of(items: Iterable[Line], words: int = RUN_WORDS) -> frozenset[tuple[str, ...]]:
    """All runs of so many words in the items; one that is shorter counts whole."""
    runs: set[tuple[str, ...]] = set()
    for item in items:
        said = words_of(item)
        runs.update(tuple(said[at : at + words]) for at in range(max(1, len(said) - words + 1)))
    return frozenset(runs)


def sharing(items: Sequence[Line], others: Iterable[Line], words: int = RUN_WORDS) -> float:
    """The share of ``items`` that has a run of so many words in common with any of ``others``; 0 to 1."""
    known = runs_of(others, words)
    return sum(not known.isdisjoint(runs_of([item], words)) for item in items) / max(1, len(items))


def _error(grade: TaskGrade) -> float:
    """Standard error of the mean points; where all items came out alike, that of one that might have differed."""
    return max(grade.stderr, 1.0 / (grade.count + 2)) if grade.value == grade.points else grade.stderr
