"""Models that know a share of a task's items: what they say to each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gridllm_leaderboard.results import Line, digest_of


def answers(items: Sequence[Line], quality: float) -> list[list[float]]:
    """Log-likelihoods for each item. A share of ``quality`` is right, to the item: only draws are random.

    Always the same ones of the same items, and a better model knows those, too.
    """
    by_digest = sorted(items, key=digest_of)
    known = {digest_of(item) for item in by_digest[: round(quality * len(items))]}
    return [_logliks(item, quality, digest_of(item) in known) for item in items]


def _logliks(item: Line, quality: float, known: bool) -> list[float]:
    if "text" in item:
        return [-math.log(2) * len(item["text"].encode()) * (1.5 - 0.5 * quality)]
    right = item["gold"] if known else (item["gold"] + 1) % len(item["choices"])
    return [-1.0 if index == right else -5.0 for index in range(len(item["choices"]))]
