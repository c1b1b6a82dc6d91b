"""One model's results on one task as arrays, and the median of what several graders found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.resample import MAX_ITEM_BITS, Floats
from gridllm_leaderboard.results import MAX_LINE_BYTES, ItemResult

MAX_ITEMS: Final = 5000  # of a task, as in contest.TaskRule


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on one task's items, in their order."""

    items: tuple[str, ...]  # digests
    points: Floats  # [items], 0 to 1
    bits: Floats | None  # [items]: of the texts; None: a choice task
    sizes: Floats  # [items]: bytes of the texts; choice: ones

    @property
    def value(self) -> float:
        """What the task's column shows: bits per byte over all text, or the share that is right."""
        if self.bits is None:
            return mean(self.points)
        return math.fsum(self.bits) / math.fsum(self.sizes)


Model = Mapping[str, Measured]
"""One model, by task."""


def measured(results: Sequence[ItemResult]) -> Measured:
    """Results as arrays. A task is one of text where each item has one log-likelihood, else one of choices.

    Raises:
        LeaderboardError: no results, too many, of both kinds, or with an impossible size.
    """
    if not 1 <= len(results) <= MAX_ITEMS:
        raise LeaderboardError(f"A task has 1 to {MAX_ITEMS} results, not {len(results)}.")
    widths = [len(one.logliks) for one in results]
    text = widths[0] == 1
    if not all(width == 1 if text else width > 1 for width in widths):
        raise LeaderboardError("A task's results have one log-likelihood each (text) or several each (choices).")
    if any(one.size > MAX_LINE_BYTES for one in results):
        raise LeaderboardError(f"An item of more than {MAX_LINE_BYTES} bytes cannot be.")
    bits = np.array([-one.logliks[0] for one in results]) / math.log(2) if text else None
    return Measured(
        items=tuple(one.item for one in results),
        points=np.array([one.points for one in results], dtype=np.float64),
        bits=None if bits is None else np.clip(np.nan_to_num(bits, nan=MAX_ITEM_BITS), 0.0, MAX_ITEM_BITS),
        sizes=np.array([one.size for one in results], dtype=np.float64),
    )


def median_of(found: Sequence[Measured]) -> Measured:
    """Item by item the median of what several graders found; of two, their mean.

    Raises:
        LeaderboardError: they are of different items.
    """
    first = found[0]
    if any((one.items, one.bits is None) != (first.items, first.bits is None) for one in found):
        raise LeaderboardError("Two graders' results are of different items.")
    bits = [one.bits for one in found if one.bits is not None]
    return Measured(
        first.items,
        np.median([one.points for one in found], axis=0),
        np.median(bits, axis=0) if bits else None,
        first.sizes,
    )


def mean(values: Floats) -> float:
    """The mean, rounded once, so that no machine's way of adding shows."""
    return math.fsum(values) / len(values)
