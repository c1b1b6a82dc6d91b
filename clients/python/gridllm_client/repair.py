"""Decisions of a repair, pure: which hops go, what each living one must resend. docs/protocol.md tells the order.

The chain is repaired from tail to head. Every hop drops what the latest call made stale and reports how far its rows
reach; ``need_of`` turns the report into the positions its upstream must send again. After that each row on each hop is
a prefix of the client's, whatever else breaks during the repair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gridllm.ids import PeerId
from gridllm.wire.messages import RowSlice

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0


@dataclass(slots=True)
class Call:
    """The client's latest forward call: what it did to the rows, and what has come back of it."""

    step: int
    slices: dict[int, RowSlice]  # by row
    before: list[int]  # row lengths before the call
    after: list[int]  # row lengths once it is in
    got: dict[int, int] = field(default_factory=dict)  # per row: first position whose output has not come back yet

    @staticmethod
    def of(step: int, slices: Sequence[RowSlice], lengths: Sequence[int]) -> Call:
        """The call that applies ``slices`` to rows of ``lengths`` tokens."""
        after = list(lengths)
        got = {}
        for s in slices:
            after[s.row] = s.position + s.tokens
            got[s.row] = s.position + s.tokens - s.keep
        return Call(step, {s.row: s for s in slices}, list(lengths), after, got)

    def wanted(self) -> list[int]:
        """Per row: outputs from this position on are still waited for; the row's length when none are."""
        return [self.got.get(row, length) for row, length in enumerate(self.after)]

    def valid(self) -> list[int]:
        """Per row: how much of what it held before the call is still part of it."""
        left = list(self.before)
        for row, s in self.slices.items():
            left[row] = s.position if s.source == row else 0
        return left

    @property
    def complete(self) -> bool:
        """Whether all outputs came back."""
        return all(self.after[row] == position for row, position in self.got.items())


def need_of(call: Call, lengths: Sequence[int], step: int) -> list[int]:
    """Per row: the position from which a hop must be fed again, given its report after an Open or Resume.

    Args:
        lengths: tokens per row in the hop's cache, as it reports.
        step: number of the last call the hop took in, as it reports. One that lacks the call holds no more than what
            the call left valid.
    """
    most = call.after if step >= call.step else call.valid()
    return [min(length, known) for length, known in zip(lengths, most, strict=True)]


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of hops to be replaced: hops ``first`` … ``last`` - 1 of the chain, blocks [start, end)."""

    first: int
    last: int
    start: int
    end: int


def gaps_of(hops: Sequence[tuple[PeerId, int, int]], gone: Collection[PeerId], blocks: int) -> list[Gap]:
    """Runs of (peer, start, end) hops whose peer is in ``gone``; the whole model when there are no hops."""
    if not hops:
        return [Gap(0, 0, 0, blocks)]
    found: list[Gap] = []
    for index, (peer, start, end) in enumerate(hops):
        if peer not in gone:
            continue
        if found and found[-1].last == index:
            found[-1] = Gap(found[-1].first, index + 1, found[-1].start, end)
        else:
            found.append(Gap(index, index + 1, start, end))
    return found


def ways(
    lost: frozenset[PeerId], accused: frozenset[PeerId], accusers: frozenset[PeerId]
) -> Iterator[frozenset[PeerId]]:
    """Sets of hops to replace, the likeliest cure first.

    A node that cannot push blames its next hop, yet either of the two may be at fault, and when both still answer the
    client it may have passed already.
    """
    seen = set()
    for way in (lost | accused, lost | accusers, lost):
        if way not in seen:
            seen.add(way)
            yield way


def pause_s(attempt: int, draw: float) -> float:
    """How long to wait before attempt ``attempt`` (the first, 1, follows at once); ``draw`` in [0, 1) is the jitter."""
    if attempt <= 1:
        return 0.0
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 2))
    return longest * (0.5 + draw / 2)


def stuck_hop(reports: Sequence[tuple[PeerId, int]], step: int) -> PeerId | None:
    """Of (peer, last step taken in) from head to tail: the node that holds the call up after a stall.

    That is the last one the call reached: it took the call in and passed nothing on. None when it reached nobody.
    """
    reached = [peer for peer, taken in reports if taken >= step]
    return reached[-1] if reached else None
