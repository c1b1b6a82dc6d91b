"""What a sender keeps of a session, so that a substitute downstream can be fed from position 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch

from gridllm.wire.messages import RowSlice

REPLAY_CHUNK_TOKENS: Final = 128  # per frame when resending; small enough to pipeline through the chain


class ReplayBuffer:
    """Hidden states sent in one session, per row, following every cut and reordering of the steps.

    Rows grow by doubling, in the model's dtype on the CPU. Used by the client for what it embedded and by each node
    for what it pushed on.
    """

    def __init__(self, rows: int, hidden_size: int, dtype: torch.dtype) -> None:
        # Each [capacity, hidden_size]; all begin as the same empty one.
        self._hidden = [torch.empty(0, hidden_size, dtype=dtype)] * rows
        self.lengths = [0] * rows
        """Tokens held per row."""

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        return sum(row.nbytes for row in self._hidden)

    def append(self, slices: Sequence[RowSlice], hidden: torch.Tensor) -> None:
        """Record a step: ``hidden`` [sum(tokens), hidden_size] in the order of ``slices``."""
        sources = {s.row: self._hidden[s.source][: s.position].clone() for s in slices if s.source != s.row}
        offset = 0
        for s in slices:
            if s.row in sources:
                self._hidden[s.row] = sources[s.row]
            end = s.position + s.tokens
            row = self._grown(s.row, s.position, end)
            row[s.position : end] = hidden[offset : offset + s.tokens]
            self.lengths[s.row] = end
            offset += s.tokens

    def cut(self, lengths: Sequence[int]) -> None:
        """Keep at most the first ``lengths[row]`` tokens of each row."""
        self.lengths = [min(have, kept) for have, kept in zip(self.lengths, lengths, strict=True)]

    def from_positions(self, need: Sequence[int]) -> Iterator[tuple[RowSlice, torch.Tensor]]:
        """Chunks that carry every row from ``need[row]`` to its end; each tensor is a copy [tokens, hidden_size].

        A copy, since it may wait in a transport's buffer while a later step overwrites the row.
        """
        for row, first in enumerate(need):
            for start in range(first, self.lengths[row], REPLAY_CHUNK_TOKENS):
                end = min(start + REPLAY_CHUNK_TOKENS, self.lengths[row])
                yield RowSlice(row, row, start, end - start, end - start), self._hidden[row][start:end].clone()

    def _grown(self, row: int, kept: int, end: int) -> torch.Tensor:
        held = self._hidden[row]
        if held.shape[0] < end:
            held = torch.empty(max(end, 2 * held.shape[0], 64), held.shape[1], dtype=held.dtype)
            held[:kept] = self._hidden[row][:kept]
            self._hidden[row] = held
        return held
