"""How a forward call is cut into frames that flow through the chain like a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from gridllm.wire.messages import MAX_BODY_BYTES, RowSlice

CHUNK_TOKENS: Final = 128  # a long prompt's frames: small enough that all nodes of a chain work at once
ALONE_CHUNK_TOKENS: Final = 512  # with one node there is no pipeline to fill, and larger passes are faster


def chunk_tokens(hops: int, hidden_size: int, dtype: torch.dtype) -> int:
    """Tokens per frame for a chain of ``hops`` nodes."""
    wished = ALONE_CHUNK_TOKENS if hops == 1 else CHUNK_TOKENS
    return max(1, min(wished, MAX_BODY_BYTES // (hidden_size * dtype.itemsize)))


def frames(
    slices: Sequence[RowSlice], lengths: Sequence[int], hidden: torch.Tensor, chunk: int
) -> Iterator[tuple[list[RowSlice], torch.Tensor]]:
    """Cut ``hidden`` [sum(tokens), H] into frames of at most about ``chunk`` tokens that, in order, do the same.

    The first frame holds some of every row that continues from another one (sources are read before any row is
    written), or that is cut: a node that has seen it holds nothing stale.

    Args:
        lengths: tokens per row before.
    """
    if hidden.shape[0] <= chunk:
        yield list(slices), hidden
        return
    rest, offset = [], 0
    for s in slices:
        rest.append((s, offset))
        offset += s.tokens
    changed = {s.row for s in slices if s.source != s.row or s.position < lengths[s.row]}
    if changed:
        share = max(1, min(chunk, CHUNK_TOKENS) // len(changed))  # nodes cut larger frames again
        yield _frame([(_part(s, 0, min(share, s.tokens)), at) for s, at in rest if s.row in changed], hidden)
        rest = [
            (_part(s, share, s.tokens - share), at + share) if s.row in changed else (s, at)
            for s, at in rest
            if s.row not in changed or s.tokens > share
        ]
    frame: list[tuple[RowSlice, int]] = []
    room = chunk
    for s, at in rest:
        done = 0
        while done < s.tokens:
            tokens = min(room, s.tokens - done)
            frame.append((_part(s, done, tokens), at + done))
            done += tokens
            room -= tokens
            if not room:
                yield _frame(frame, hidden)
                frame, room = [], chunk
    if frame:
        yield _frame(frame, hidden)


def _part(s: RowSlice, first: int, tokens: int) -> RowSlice:
    """Tokens [first, first + tokens) of a slice; only the first part continues from another row."""
    keep = max(0, first + tokens - max(first, s.tokens - s.keep))
    return RowSlice(s.row, s.source if first == 0 else s.row, s.position + first, tokens, keep)


def _frame(parts: list[tuple[RowSlice, int]], hidden: torch.Tensor) -> tuple[list[RowSlice], torch.Tensor]:
    slices = [s for s, _ in parts]
    if len(parts) == 1:
        s, at = parts[0]
        return slices, hidden[at : at + s.tokens]
    return slices, torch.cat([hidden[at : at + s.tokens] for s, at in parts])
