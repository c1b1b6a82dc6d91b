"""What a step may do to a session: pure checks and cuts, no tensors, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gridllm.errors import BadPosition, Malformed, TooLarge
from gridllm.wire.messages import RowSlice
from gridllm.wire.slices import offsets

MAX_ROW_TOKENS: Final = 2**20


def lengths_after(slices: Sequence[RowSlice], lengths: Sequence[int]) -> list[int]:
    """Row lengths once the step is in.

    Raises:
        Malformed: a row that the session does not have, or twice the same row.
        BadPosition: a step that starts beyond the end of its source row.
        TooLarge: a row longer than any model takes.
    """
    after = list(lengths)
    seen: set[int] = set()
    for s in slices:
        if s.row >= len(lengths) or s.source >= len(lengths):
            raise Malformed(
                f"The step names row {max(s.row, s.source)} of a session that was opened with {len(lengths)} rows."
            )
        if s.row in seen:
            raise Malformed(f"The step names row {s.row} twice.")
        if s.position > lengths[s.source]:
            raise BadPosition(
                f"The step starts at position {s.position} of row {s.source}, which holds {lengths[s.source]} tokens; "
                f"send the positions in between first."
            )
        if s.keep > s.tokens:
            raise Malformed(f"The step keeps {s.keep} positions of the {s.tokens} it sends for row {s.row}.")
        if s.position + s.tokens > MAX_ROW_TOKENS:
            raise TooLarge(
                f"Row {s.row} would hold {s.position + s.tokens} tokens; at most {MAX_ROW_TOKENS} are taken."
            )
        seen.add(s.row)
        after[s.row] = s.position + s.tokens
    return after


def whole(slices: Sequence[RowSlice]) -> Iterator[tuple[RowSlice, int]]:
    """Every slice as it came, with its offset in the step: what a node in the middle of the chain pushes on."""
    return zip(slices, offsets(slices), strict=True)


def passed_on(slices: Sequence[RowSlice], need: Sequence[int]) -> Iterator[tuple[RowSlice, int]]:
    """What of a replayed step the next hop lacks: slices from ``need[row]`` on, each with its offset in the step."""
    for s, offset in zip(slices, offsets(slices), strict=True):
        skipped = min(max(0, need[s.row] - s.position), s.tokens)
        if skipped < s.tokens:
            tokens = s.tokens - skipped
            yield RowSlice(s.row, s.row, s.position + skipped, tokens, tokens), offset + skipped


def kept(slices: Sequence[RowSlice]) -> Iterator[tuple[RowSlice, int]]:
    """What of a step returns to the client: the trailing ``keep`` positions, each with its offset in the step."""
    for s, offset in zip(slices, offsets(slices), strict=True):
        if s.keep:
            skipped = s.tokens - s.keep
            yield RowSlice(s.row, s.row, s.position + skipped, s.keep, s.keep), offset + skipped
