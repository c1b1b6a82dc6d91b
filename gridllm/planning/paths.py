"""The cheapest way over (block, node): dynamic programming, block by block, over all nodes at once.

Blocks are only ever passed upwards, so the shortest path needs no queue: at each block, the cost of having reached it
on each node follows from the block before. With n nodes that is one n × n minimum per block.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gridllm.ids import PeerId
from gridllm.planning.coverage import usual_speed
from gridllm.wire.record import NodeRecord

GUESSED_RTT_MS: Final = 40.0  # between peers nobody measured: a usual path across a continent
MAX_RTT_MS: Final = 60_000.0
HOP_MS: Final = 0.7  # what a push costs both machines beside the network: measured on loopback, field notes
SPREAD: Final = 0.1  # share of a chain's time within which a seed may choose another
BUSY: Final = 0.25  # a node whose KV cache is full counts as this much slower than an empty one

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lane:
    """One node as the path search sees it. All times in milliseconds; ``factor`` makes them weights."""

    record: NodeRecord
    start: int  # blocks the search may use on this node; within the record's span
    end: int
    block_ms: float  # one token through one block
    enter_ms: float  # from ``before`` or the client to this node
    leave_ms: float  # from this node to ``after`` or the client
    push_ms: Floats  # from this node to each lane
    factor: float  # preference, 1 … (1 + SPREAD + BUSY)
    missing: frozenset[int] = frozenset()  # blocks in between that it must leave to another

    def within(self, start: int, end: int) -> Lane:
        """This lane on blocks [start, end) only; possibly none."""
        return replace(self, start=start, end=max(start, end))

    def without(self, block: int) -> Lane:
        """This lane with one block taken out."""
        return replace(self, missing=self.missing | {block}) if self.start <= block < self.end else self


@dataclass(frozen=True, slots=True)
class Path:
    """A way through the lanes: (lane, start, end) in order."""

    segments: tuple[tuple[int, int, int], ...]
    weight: float  # what the search minimised; infinite when there is no way

    def repeated(self) -> tuple[int, int] | None:
        """A lane that occurs twice, and the first block after its first leg; None when each occurs once."""
        first_end: dict[int, int] = {}
        for lane, _, end in self.segments:
            if lane in first_end:
                return lane, first_end[lane]
            first_end[lane] = end
        return None


def lanes_of(
    records: Sequence[NodeRecord],
    start: int,
    end: int,
    rtt_ms: Mapping[PeerId, float],
    before: NodeRecord | None,
    after: PeerId | None,
    seed: int | str | None,
) -> list[Lane]:
    """Lanes of the nodes that serve any of blocks [start, end), ordered by peer id."""
    chosen = {r.peer: r for r in sorted(records, key=lambda r: (r.peer, r.since)) if r.start < end and start < r.end}
    place = {peer: i for i, peer in enumerate(chosen)}
    usual = usual_speed(chosen.values())
    to_client = np.array([_sane(rtt_ms.get(peer)) for peer in chosen])
    lanes = []
    for i, (peer, record) in enumerate(chosen.items()):
        push_rtt = np.maximum(to_client, to_client[i])  # a guess, for pairs that nobody measured
        for other, measured in record.next_hop_ms.items():
            if other in place:
                push_rtt[place[PeerId(other)]] = _sane(measured)
        push_ms = push_rtt / 2 + HOP_MS
        push_ms[i] = 0.0  # staying is free
        enter_rtt = to_client[i] if before is None else _sane(before.next_hop_ms.get(peer))
        leave_rtt = to_client[i] if after is None else _sane(record.next_hop_ms.get(after))
        lanes.append(
            Lane(
                record=record,
                start=max(record.start, start),
                end=min(record.end, end),
                block_ms=1000.0 / (record.blocks_per_s or usual),
                enter_ms=float(enter_rtt) / 2 + HOP_MS,
                leave_ms=float(leave_rtt) / 2,
                push_ms=push_ms,
                factor=_preference(record, seed),
            )
        )
    return lanes


def best_path(lanes: Sequence[Lane], start: int, end: int) -> Path:
    """The way of least weight over blocks [start, end). A lane may occur in it more than once."""
    factor = np.array([lane.factor for lane in lanes])
    per_block = np.array([lane.block_ms for lane in lanes]) * factor
    push = np.stack([lane.push_ms for lane in lanes]) * factor  # [from, to]; both costs of a node carry its factor
    usable = np.zeros((end - start, len(lanes)), dtype=bool)
    for i, lane in enumerate(lanes):
        usable[lane.start - start : lane.end - start, i] = True
        for block in lane.missing:
            usable[block - start, i] = False
    came_from = np.zeros((end - start, len(lanes)), dtype=np.intp)
    reached = np.array([lane.enter_ms for lane in lanes]) * factor
    done = np.where(usable[0], reached + per_block, np.inf)
    for block in range(1, end - start):
        through = done[:, None] + push
        came_from[block] = through.argmin(axis=0)
        done = np.where(usable[block], through.min(axis=0) + per_block, np.inf)
    done = done + np.array([lane.leave_ms for lane in lanes]) * factor
    last = int(done.argmin())
    if not np.isfinite(done[last]):
        return Path((), math.inf)
    segments = _segments(came_from, last, start, end)
    return Path(segments, float(done[last]))


def _segments(came_from: npt.NDArray[np.intp], last: int, start: int, end: int) -> tuple[tuple[int, int, int], ...]:
    """Follow the search back from the last block."""
    segments: list[tuple[int, int, int]] = []
    lane, stop = last, end
    for block in range(end - 1, start, -1):
        previous = int(came_from[block - start, lane])
        if previous != lane:
            segments.append((lane, block, stop))
            lane, stop = previous, block
    segments.append((lane, start, stop))
    return tuple(reversed(segments))


def expected_ms(lanes: Sequence[Lane], segments: Sequence[tuple[int, int, int]]) -> float:
    """One token's time from the client through all segments and back, milliseconds."""
    first, last = segments[0][0], segments[-1][0]
    compute = sum((stop - start) * lanes[i].block_ms for i, start, stop in segments)
    pushes = sum(float(lanes[a[0]].push_ms[b[0]]) for a, b in pairwise(segments))
    return lanes[first].enter_ms + compute + pushes + lanes[last].leave_ms


def _sane(rtt_ms: float | None) -> float:
    """A stranger's measurement, kept within bounds; the guess where there is none."""
    if rtt_ms is None or not math.isfinite(rtt_ms):
        return GUESSED_RTT_MS
    return min(max(rtt_ms, 0.0), MAX_RTT_MS)


def _preference(record: NodeRecord, seed: int | str | None) -> float:
    """What a node's times are multiplied with when chains are compared."""
    used = 1.0 - min(1.0, record.free_tokens / record.total_tokens) if record.total_tokens else 1.0
    drawn = 0.0
    if seed is not None:
        digest = hashlib.sha256(f"gridllm routing {seed} {record.peer}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
    return 1.0 + BUSY * used + SPREAD * drawn
