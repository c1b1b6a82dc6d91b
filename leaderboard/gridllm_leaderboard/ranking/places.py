"""Scores → places, best first; models that noise does not tell from the first of their group share its place.

The first of a group is the best that is in no group yet. A model belongs to its group while the difference of the two
is not above the noise of both, √(h₁² + h₂²), h being half of each one's 95% interval. As everyone in a group is
compared with its first alone, groups do not overlap, and a model's place does not depend on those behind it. Models of
different rounds were asked different items, so the noise is that of two separate samples; for two of one round it is
too large rather than too small (the duel with the champion alone is paired, and its result stands in the verdict).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gridllm_leaderboard.ranking.estimate import Estimate
from gridllm_leaderboard.records import Mark

Kind = Literal["text", "choice"]


@dataclass(frozen=True, slots=True)
class Placed:
    """One model's place."""

    mark: Mark
    place: int  # 1: best; a shared one is that of the group's first


def places(marks: Iterable[Mark], task: str | None = None, kind: Kind = "choice") -> list[Placed]:
    """All models in their order.

    Args:
        marks: those without ``task`` are left out.
        task: rank by this task alone; None: by the score.
        kind: of the task: bits per byte are better where they are fewer.
    """
    sign = -1.0 if task is not None and kind == "text" else 1.0
    known = [(mark, _by(mark, task)) for mark in marks if task is None or task in mark.tasks]
    ordered = sorted(known, key=lambda pair: (-sign * pair[1].value, pair[0].submission))
    placed: list[Placed] = []
    first: Estimate | None = None
    place = 1
    for position, (mark, found) in enumerate(ordered, start=1):
        if first is None or abs(first.value - found.value) > math.hypot(first.half, found.half):
            first, place = found, position
        placed.append(Placed(mark, place))
    return placed


def _by(mark: Mark, task: str | None) -> Estimate:
    return Estimate(mark.score, mark.low, mark.high) if task is None else Estimate(*mark.tasks[task])
