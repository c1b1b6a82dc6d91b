"""What a step may do to a session: pure checks and cuts, no tensors, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gridllm.errors import BadPosition, Malformed, TooLarge
from gridllm.wire.messages import RowSlice

CHUNK_TOKENS: Final = 128  # of a long prompt per pass: small enough to pipeline along the chain
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


def total_tokens(slices: Sequence[RowSlice]) -> int:
    """Tokens of all rows of a step."""
    return sum(s.tokens for s in slices)


Piece = list[tuple[RowSlice, int]]
"""Slices of one pass, each with the offset of its first token in the whole step."""


def cut(slices: Sequence[RowSlice], chunk: int = CHUNK_TOKENS) -> Iterator[Piece]:
    """Split a step into pieces of about ``chunk`` tokens that, run in order, do the same.

    The first piece holds every row that continues from another one, since sources are read before any row is written.
    """
    if total_tokens(slices) <= chunk:
        offsets = _offsets(slices)
        yield list(zip(slices, offsets, strict=True))
        return
    starts = dict(zip((s.row for s in slices), _offsets(slices), strict=True))
    done = {s.row: 0 for s in slices}
    moved = [s for s in slices if s.source != s.row]
    if moved:
        share = max(1, chunk // len(moved))
        piece: Piece = []
        for s in moved:
            done[s.row] = min(share, s.tokens)
            piece.append((_part(s, 0, done[s.row]), starts[s.row]))
        yield piece
    piece, room = [], chunk
    for s in slices:
        while done[s.row] < s.tokens:
            first = done[s.row]
            tokens = min(room, s.tokens - first)
            piece.append((_part(s, first, tokens), starts[s.row] + first))
            done[s.row] += tokens
            room -= tokens
            if room == 0:
                yield piece
                piece, room = [], chunk
    if piece:
        yield piece


def whole(slices: Sequence[RowSlice]) -> Iterator[tuple[RowSlice, int]]:
    """Every slice as it came, with its offset in the step: what a node in the middle of the chain pushes on."""
    return zip(slices, _offsets(slices), strict=True)


def passed_on(slices: Sequence[RowSlice], need: Sequence[int]) -> Iterator[tuple[RowSlice, int]]:
    """What of a replayed step the next hop lacks: slices from ``need[row]`` on, each with its offset in the step."""
    for s, offset in zip(slices, _offsets(slices), strict=True):
        skipped = min(max(0, need[s.row] - s.position), s.tokens)
        if skipped < s.tokens:
            tokens = s.tokens - skipped
            yield RowSlice(s.row, s.row, s.position + skipped, tokens, tokens), offset + skipped


def kept(slices: Sequence[RowSlice]) -> Iterator[tuple[RowSlice, int]]:
    """What of a step returns to the client: the trailing ``keep`` positions, each with its offset in the step."""
    for s, offset in zip(slices, _offsets(slices), strict=True):
        if s.keep:
            skipped = s.tokens - s.keep
            yield RowSlice(s.row, s.row, s.position + skipped, s.keep, s.keep), offset + skipped


def _offsets(slices: Sequence[RowSlice]) -> list[int]:
    offsets, total = [], 0
    for s in slices:
        offsets.append(total)
        total += s.tokens
    return offsets


def _part(s: RowSlice, first: int, tokens: int) -> RowSlice:
    """Tokens [first, first + tokens) of a slice; only the first part continues from another row."""
    keep = max(0, first + tokens - max(first, s.tokens - s.keep))
    return RowSlice(s.row, s.source if first == 0 else s.row, s.position + first, tokens, keep)
