"""A random sample of a round's items, asked again on this machine."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.agreement import MAX_POINTS_APART, Vote, agree
from gridllm_leaderboard.results import ItemResult, Line, digest_of

Sample = dict[str, list[int]]
"""By task: which of its items, in their order."""

SAMPLE: Final = 20  # items, unless told otherwise


def sample_of(items: Mapping[str, Sequence[Line]], count: int, rng: random.Random) -> Sample:
    """``count`` of all items, each as likely as any other; ``rng`` is nothing that the leaderboard could foresee."""
    everything = [(task, number) for task in sorted(items) for number in range(len(items[task]))]
    chosen = sorted(rng.sample(everything, min(count, len(everything))))
    return {task: [number for name, number in chosen if name == task] for task in sorted({name for name, _ in chosen})}


def verify_rerun(
    sample: Sample,
    items: Mapping[str, Sequence[Line]],
    here: Mapping[str, Sequence[ItemResult]],
    said: Mapping[str, Sequence[ItemResult]],
) -> str:
    """Compare what came out here with what a grader says; what is to be told of it.

    Raises:
        LeaderboardError: they differ beyond noise (agreement.py); names the first item.
    """
    mine: list[float] = []
    theirs: list[float] = []
    first = ""
    for task, numbers in sample.items():
        for number, found in zip(numbers, here[task], strict=True):
            told = said[task][number]
            if not told.item == found.item == digest_of(items[task][number]):
                raise LeaderboardError(f"Item {number + 1} of the task {task!r} is another one in the results.")
            mine.append(found.points)
            theirs.append(told.points)
            if not first and abs(found.points - told.points) > MAX_POINTS_APART:
                first = f"item {number + 1} of {task!r}: {told.points:.4f} points said, {found.points:.4f} found here"
    one, other = (Vote("", "", np.array(points, dtype=np.float64)) for points in (mine, theirs))
    if not agree(one, other):
        raise LeaderboardError(f"The model does not answer here as the grader says; first at {first}.")
    apart = float(np.abs(np.array(mine) - np.array(theirs)).max(initial=0.0))
    return f"{len(mine)} items run here, points at most {apart:.1e} apart" + (
        f"; {first}, which is noise" if first else ""
    )
