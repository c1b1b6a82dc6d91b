"""How well each block of a model is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from gridllm.wire.record import NodeRecord

STATE_WEIGHT = {"serving": 1.0, "joining": 0.9, "draining": 0.0}
"""How much of a node's speed counts for its blocks: one that loads may yet fail, one that drains is as good as gone."""


def coverage(records: Iterable[NodeRecord], blocks: int) -> list[int]:
    """Number of serving nodes per block, for blocks 0 … ``blocks`` - 1."""
    steps = [0] * (blocks + 1)
    for record in records:
        start, end = min(record.start, blocks), min(record.end, blocks)
        if record.state == "serving" and start < end:
            steps[start] += 1
            steps[end] -= 1
    counts, total = [], 0
    for step in steps[:blocks]:
        total += step
        counts.append(total)
    return counts


def gaps(counts: Sequence[float], start: int = 0) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of blocks whose count is zero; ``counts[0]`` belongs to block ``start``."""
    empty = [False, *(count <= 0 for count in counts), False]
    edges = [start + i for i, (left, right) in enumerate(pairwise(empty)) if left != right]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def usual_speed(records: Iterable[NodeRecord]) -> float:
    """Blocks per second of a typical node: stands in for nodes that have not measured theirs yet."""
    measured = [record.blocks_per_s for record in records if record.blocks_per_s > 0]
    return median(measured) if measured else 1.0


def supply(records: Sequence[NodeRecord], blocks: int) -> list[float]:
    """Tokens per second that the announced nodes can take through each block, all of them together.

    A node of speed ``s`` blocks/s that serves ``n`` blocks gives each of them ``s / n``.
    """
    usual = usual_speed(records)
    total = [0.0] * blocks
    for record in sorted(records, key=lambda r: r.peer):  # floats are summed in one order on every node
        weight = STATE_WEIGHT[record.state]
        share = weight * (record.blocks_per_s or usual) / (record.end - record.start)
        for block in range(record.start, min(record.end, blocks)):
            total[block] += share
    return total


def spell_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges as people read them: ``0:4, 9:10``."""
    return ", ".join(f"{start}:{end}" for start, end in ranges)
