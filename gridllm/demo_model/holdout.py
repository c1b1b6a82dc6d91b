"""Which slot combinations belong to the training set and which to the held-out set.

Each kind of document has one pair of slots that decides (hero and place, the two numbers of a sum, topic and phrasing).
A pair belongs to one split only, so the two sets are disjoint by construction, and held-out perplexity is measured on
combinations that no training document contains.
"""

import random
from collections.abc import Sequence
from functools import cache
from typing import Literal
from zlib import crc32

__all__ = ["Split", "allowed", "draw_pair"]

Split = Literal["train", "held_out"]

HELD_OUT_ONE_IN = 12


def allowed(split: Split, *combination: object) -> bool:
    """Whether a document of this split may contain the combination."""
    digest = crc32("|".join(map(str, combination)).encode())
    return (digest % HELD_OUT_ONE_IN == 0) == (split == "held_out")


@cache
def allowed_pairs(split: Split, first: tuple[str, ...], second: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """All pairs of the two slots that the split may use, in a fixed order."""
    return tuple((a, b) for a in first for b in second if allowed(split, a, b))


def draw_pair(rng: random.Random, split: Split, first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """One pair of the split, each equally likely."""
    return rng.choice(allowed_pairs(split, tuple(first), tuple(second)))
