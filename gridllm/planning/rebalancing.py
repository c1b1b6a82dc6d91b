"""Whether a node should give up its blocks for others that the grid needs more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from gridllm.planning.coverage import supply
from gridllm.planning.placement import BlockRange, choose_span
from gridllm.wire.record import NodeRecord

CLEAR_GAIN: Final = 1.3  # times the weakest block's supply; for less, moving costs the grid more than it brings

_Worth = tuple[int, float]  # (minus the number of unserved blocks, supply of the weakest block)


def should_move(records: Iterable[NodeRecord], me: NodeRecord, blocks: int, turn: int = 0) -> BlockRange | None:
    """Where ``me`` should move: to close a gap, or to lift the weakest block clearly, since that one bounds the grid's
    rate. None to stay.

    Of several nodes that could do as much good, one is drawn by ``turn`` and goes; the others see it announced as
    joining and look again. All nodes must count the same turns, for instance minutes of the clock: with the next turn
    comes another one, in case the first cannot move (it is busy, or its volunteer fixed its blocks).
    """
    if me.state != "serving":
        return None
    everyone = [record for record in records if record.peer != me.peer] + [me]
    worth, target = _best_move(everyone, me, blocks)
    if target is None:
        return None
    for other in everyone:
        if other.state == "serving" and _rank(other, turn) < _rank(me, turn):
            its_worth, its_target = _best_move(everyone, other, blocks)
            if its_target is not None and its_worth >= worth:
                return None
    return target


def _rank(record: NodeRecord, turn: int) -> bytes:
    return hashlib.sha256(f"gridllm rebalancing {turn} {record.peer}".encode()).digest()


def _best_move(records: list[NodeRecord], mover: NodeRecord, blocks: int) -> tuple[_Worth, BlockRange | None]:
    """What the grid is worth after the mover's best move, and that move; None when it brings no clear gain."""
    before = _worth(records, blocks)
    rest = [record for record in records if record.peer != mover.peer]
    start, end = choose_span(rest, blocks, mover.end - mover.start, mover.peer)
    moved = msgspec.structs.replace(mover, start=start, end=end)
    after = _worth([*rest, moved], blocks)
    closes_gap = after[0] > before[0]
    lifts_weakest = after[0] == before[0] == 0 and after[1] > before[1] * CLEAR_GAIN
    return after, (start, end) if closes_gap or lifts_weakest else None


def _worth(records: list[NodeRecord], blocks: int) -> _Worth:
    supplied = supply(records, blocks)
    return -sum(1 for tokens_per_s in supplied if tokens_per_s <= 0), min(supplied)
