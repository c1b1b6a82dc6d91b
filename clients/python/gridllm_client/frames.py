"""How a forward call is cut into frames that flow through the chain like a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

import torch

from gridllm.wire.messages import MAX_BODY_BYTES, RowSlice

CHUNK_TOKENS: Final = 128  # a long prompt's frames: small enough that all nodes of a chain work at once
ALONE_CHUNK_TOKENS: Final = 512  # with one node there is no pipeline to fill, and larger passes are faster


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
    starts = list(accumulate((s.tokens for s in slices), initial=0))
    for first in range(0, max(s.tokens for s in slices), share):
        parts = [
            (_part(s, first, min(share, s.tokens - first)), at + first)
            for s, at in zip(slices, starts, strict=False)
            if first < s.tokens
        ]
        asked = [part.keep for part, _ in parts]
        whole = [
            (part if part.keep else RowSlice(part.row, part.source, part.position, part.tokens, 1), at)
            for part, at in parts
        ]
        yield *_frame(whole, hidden), asked


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
