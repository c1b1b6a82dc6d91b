"""Resamples of a round's items, for bootstrap intervals that come out the same, to the last bit, on every machine.

The bootstrap: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979); the
percentile interval: Efron and Tibshirani, "An introduction to the bootstrap" (1993), chapter 13. Items are drawn within
each task (stratified), for the tasks' sizes are fixed by the rules and no matter of chance.

Two things make it the same everywhere. The random numbers are the raw output of a counter-based generator (Philox
4x64-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), keyed with the draw's id and the task's
name; numpy promises that raw output for good, what its distributions make of it not. And all sums are of whole numbers
below 2^53, which float64 adds exactly, in whatever order a machine's matrix product takes them.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 2000
TAIL: Final = RESAMPLES * 25 // 1000  # resamples beyond each end of a 95% interval
POINT_UNITS: Final = float(2**40)  # in one point: 5,000 items' points add up to less than 2^53 units
BIT_UNITS: Final = float(2**16)  # in one bit: 5,000 items of MAX_ITEM_BITS add up to less than 2^53 units
MAX_ITEM_BITS: Final = float(2**24)

_AT_ONCE: Final = 2**20  # counts in memory at once: 8 MiB of them


def resampled_sums(draw: str, task: str, columns: Floats) -> Floats:
    """Sums over each resample of a task's items.

    Args:
        draw: id of the round's draw.
        columns: [items, n], whole numbers; a column's largest times the items is below 2^53.

    Returns:
        [RESAMPLES, n], exact.
    """
    items = columns.shape[0]
    generator = np.random.Philox(key=_key(draw, task))
    sums = np.empty((RESAMPLES, columns.shape[1]))
    step = max(1, _AT_ONCE // items)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        sums[start : start + rows] = _counts(generator, rows, items) @ columns
    return sums


def in_units(values: Floats, units: float) -> Floats:
    """``values`` as whole numbers of 1 / ``units``."""
    return np.rint(values * units)


def interval(resampled: Floats) -> tuple[Floats, Floats]:
    """Lower and upper bounds of the 95% percentile intervals; ``resampled``: [RESAMPLES, n] → two of [n]."""
    ordered = np.partition(resampled, (TAIL - 1, RESAMPLES - TAIL), axis=0)
    return ordered[TAIL - 1], ordered[RESAMPLES - TAIL]


def _key(draw: str, task: str) -> int:
    said = f"gridllm leaderboard bootstrap\n{draw}\n{task}".encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:16], "little")


def _counts(generator: np.random.Philox, rows: int, items: int) -> Floats:
    """How often each item is in each resample: [rows, items]."""
    raw = generator.random_raw(rows * items).reshape(rows, items)
    # The upper 32 bits, scaled to [0, items): no item is more than items / 2^32 likelier than another.
    drawn = ((raw >> np.uint64(32)) * np.uint64(items) >> np.uint64(32)).astype(np.int64)
    drawn += np.arange(rows, dtype=np.int64)[:, None] * items
    return np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)
