"""When a node that goes over from one model to another may give the old one up, so that the grid goes on serving."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gridllm.planning.coverage import coverage
from gridllm.wire.record import NodeRecord


def stands(records: Sequence[NodeRecord], blocks: int) -> bool:
    """Whether every block of a model has a node that serves it."""
    return min(coverage(records, blocks)) > 0


def may_make_way(records: Sequence[NodeRecord], me: NodeRecord, blocks: int, turn: int) -> bool:
    """Whether others serve all that ``me`` does, and it is ``me`` who goes first of those of whom that is so.

    Each goes alone: the next one sees it announced as draining before it looks again. All nodes count the same turns,
    for instance minutes of the clock; with the next turn comes another one, in case the first does not want to go.

    Args:
        records: announcements of the old model's other nodes.
    """
    others = [record for record in records if record.peer != me.peer]
    everyone = [*others, me]
    if any(record.state == "draining" for record in others):
        return False
    spare = [record for record in everyone if record.state == "serving" and _spared(record, everyone, blocks)]
    return bool(spare) and min(spare, key=lambda record: _rank(record, turn)).peer == me.peer


def _spared(record: NodeRecord, everyone: Sequence[NodeRecord], blocks: int) -> bool:
    rest = coverage([other for other in everyone if other.peer != record.peer], blocks)
    return all(rest[record.start : record.end])


def _rank(record: NodeRecord, turn: int) -> bytes:
    return hashlib.sha256(f"gridllm succession {turn} {record.peer}".encode()).digest()
