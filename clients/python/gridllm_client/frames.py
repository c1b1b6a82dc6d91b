"""How a forward call is cut into frames that flow through the chain like a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from gridllm.wire.messages import MAX_BODY_BYTES, RowSlice
from gridllm.wire.slices import CHUNK_TOKENS, cut, moved, offsets, part, select

ALONE_CHUNK_TOKENS: Final = 512  # with one node there is no pipeline to fill: fewer frames
CALL_TOKENS: Final = 4096  # of one call: a node queues four times that of a session, then refuses
CALL_BYTES: Final = 24 * 1024 * 1024  # of one call: a link holds back less than three times that, then gives up


def call_tokens(hidden_size: int, dtype: torch.dtype) -> int:
    """Tokens that may be under way at once; longer prompts take several calls, one after the other."""
    return max(1, min(CALL_TOKENS, CALL_BYTES // (hidden_size * dtype.itemsize)))


def calls(
    slices: Sequence[RowSlice], hidden: torch.Tensor, most: int
) -> Iterator[tuple[list[RowSlice], torch.Tensor, list[int]]]:
    """Cut a step into calls of at most about ``most`` tokens, each awaited before the next.

    Every row keeps at least one position of each of its parts, so that a call is known to be over; what nobody asked
    for is dropped. Rows that continue from others all do so in the first call.

    Yields:
        slices; their hidden states; per slice how many of its kept positions were asked for (trailing ones).
    """
    if hidden.shape[0] <= most:
        yield list(slices), hidden, [s.keep for s in slices]
        return
    share = max(1, most // len(slices))
    starts = offsets(slices)
    for first in range(0, max(s.tokens for s in slices), share):
        parts = [
            (part(s, first, min(share, s.tokens - first)), at + first)
            for s, at in zip(slices, starts, strict=True)
            if first < s.tokens
        ]
        asked = [s.keep for s, _ in parts]
        whole = [(s if s.keep else RowSlice(s.row, s.source, s.position, s.tokens, 1), at) for s, at in parts]
        yield [s for s, _ in whole], select(hidden, whole), asked


def chunk_tokens(hops: int, hidden_size: int, dtype: torch.dtype) -> int:
    """Tokens per frame for a chain of ``hops`` nodes."""
    wished = ALONE_CHUNK_TOKENS if hops == 1 else CHUNK_TOKENS
    return max(1, min(wished, MAX_BODY_BYTES // (hidden_size * dtype.itemsize)))


def frames(
    slices: Sequence[RowSlice], lengths: Sequence[int], hidden: torch.Tensor, chunk: int
) -> Iterator[tuple[list[RowSlice], torch.Tensor]]:
    """Cut ``hidden`` [sum(tokens), H] into frames of at most about ``chunk`` tokens that, in order, do the same.

    The first frame holds some of every row that continues from another one, or that is cut: a node that has seen it
    holds nothing stale.

    Args:
        lengths: tokens per row before.
    """
    changed = moved(slices) | {s.row for s in slices if s.position < lengths[s.row]}
    for piece in cut(slices, chunk, changed):
        yield [s for s, _ in piece], select(hidden, piece)
