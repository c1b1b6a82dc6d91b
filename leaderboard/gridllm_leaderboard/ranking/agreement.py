"""Which graders' results of one model count: those that more than half of all who graded it found, too.

Two grades agree where they differ by more than ``MAX_POINTS_APART`` on one item at most, or on 1% of the items at most:
so much do kernels, dtypes and processors differ. One that does not agree with most is named an outlier and left out.
Where no majority agrees, a further grader is asked, so that no single one can decide what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridllm_leaderboard.ranking.resample import Floats

MAX_POINTS_APART: Final = 1e-3  # on one item
MAX_SHARE_APART: Final = 0.01  # of items


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """What one grader found of a model."""

    grader: str
    grade: str | None  # id; None: it could not be run
    points: Floats | None  # [items of all tasks], in the round's order


@dataclass(frozen=True, slots=True)
class Settled:
    """What follows from the votes on one model."""

    counted: tuple[str, ...]  # grades; empty: it failed, or more are needed
    outliers: tuple[str, ...]  # grades
    failed: bool  # most graders could not run it
    more: int  # further votes that are needed


def settle(votes: Sequence[Vote], quorum: int) -> Settled:
    """Count one model's votes, which are one for each grader; their order does not matter.

    Args:
        quorum: votes that are needed at least, outliers' included.
    """
    if len(votes) < quorum:
        return Settled((), (), False, quorum - len(votes))
    most = [one for one in votes if 2 * sum(agree(one, other) for other in votes) > len(votes)]
    if 2 * len(most) <= len(votes):
        return Settled((), (), False, 1)
    counted = sorted(one.grade for one in most if one.grade is not None)
    outliers = sorted(one.grade for one in votes if one.grade is not None and one not in most)
    return Settled(tuple(counted), tuple(outliers), not counted, 0)


def agree(one: Vote, other: Vote) -> bool:
    """Whether both found the same, up to noise."""
    if one.points is None or other.points is None:
        return one.points is other.points
    if one.points.shape != other.points.shape:
        return False
    apart = int(np.count_nonzero(np.abs(one.points - other.points) > MAX_POINTS_APART))
    return apart < 2 or apart <= MAX_SHARE_APART * len(one.points)
