"""Slices of a step: cutting a long one into pieces that do the same, and finding their hidden states."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Final

import torch

from gridllm.wire.messages import RowSlice

CHUNK_TOKENS: Final = 128  # of a long prompt: small enough that all nodes of a chain work at once

Piece = list[tuple[RowSlice, int]]
"""Slices that travel or are computed together, each with the offset of its first token in the whole step."""


def total_tokens(slices: Sequence[RowSlice]) -> int:
    """Tokens of all rows of a step."""
    return sum(s.tokens for s in slices)


def offsets(slices: Sequence[RowSlice]) -> list[int]:
    """Per slice: where its tokens begin in the step's hidden states."""
    return list(accumulate((s.tokens for s in slices[:-1]), initial=0))


def moved(slices: Sequence[RowSlice]) -> set[int]:
    """Rows that continue from another one."""
    return {s.row for s in slices if s.source != s.row}


def cut(slices: Sequence[RowSlice], chunk: int, first: Collection[int]) -> Iterator[Piece]:
    """Split a step into pieces of about ``chunk`` tokens that, run in order, do the same.

    Args:
        first: rows of which the first piece holds some. Must include those that continue from another row, since
            sources are read before any row is written.
    """
    if total_tokens(slices) <= chunk:
        yield list(zip(slices, offsets(slices), strict=True))
        return
    done = {s.row: 0 for s in slices}
    starts = dict(zip((s.row for s in slices), offsets(slices), strict=True))

    def take(s: RowSlice, tokens: int) -> tuple[RowSlice, int]:
        begin = done[s.row]
        done[s.row] += tokens
        return part(s, begin, tokens), starts[s.row] + begin

    early = [s for s in slices if s.row in first]
    if early:
        share = max(1, min(chunk, CHUNK_TOKENS) // len(early))
        yield [take(s, min(share, s.tokens)) for s in early]
    piece: Piece = []
    room = chunk
    for s in slices:
        while done[s.row] < s.tokens:
            tokens = min(room, s.tokens - done[s.row])
            piece.append(take(s, tokens))
            room -= tokens
            if room == 0:
                yield piece
                piece, room = [], chunk
    if piece:
        yield piece


def part(s: RowSlice, first: int, tokens: int) -> RowSlice:
    """Tokens [first, first + tokens) of a slice; only the first part continues from another row."""
    keep = max(0, first + tokens - max(first, s.tokens - s.keep))
    return RowSlice(s.row, s.source if first == 0 else s.row, s.position + first, tokens, keep)


def select(hidden: torch.Tensor, piece: Piece) -> torch.Tensor:
    """The tokens of ``hidden`` [tokens, H] that a piece names, in its order; no copy when they are one run."""
    first, last = piece[0], piece[-1]
    total = sum(s.tokens for s, _ in piece)
    if last[1] + last[0].tokens - first[1] == total:
        return hidden[first[1] : first[1] + total]
    return torch.cat([hidden[offset : offset + s.tokens] for s, offset in piece])
