"""What came back of one forward call: pieces in any order and cut, put together row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gridllm.wire.messages import RowSlice
from gridllm_client.repair import Call


class Outputs:
    """The positions that a call keeps, as they come in."""

    def __init__(self, call: Call, slices: Sequence[RowSlice], hidden_size: int, dtype: torch.dtype) -> None:
        self.call = call
        self._offsets: dict[int, int] = {}  # row → where its kept positions begin
        kept = 0
        for s in slices:
            self._offsets[s.row] = kept
            kept += s.keep
        self.hidden = torch.empty(kept, hidden_size, dtype=dtype)  # [kept positions, hidden_size]

    def take(self, rows: Sequence[RowSlice], hidden: torch.Tensor) -> None:
        """Copy what is new of these rows. ``hidden``: [sum(tokens), hidden_size] in their order."""
        offset = 0
        for s in rows:
            self._take(s, hidden[offset : offset + s.tokens])
            offset += s.tokens

    def _take(self, s: RowSlice, hidden: torch.Tensor) -> None:
        """One row; a gap before it means the rest is still on its way."""
        call = self.call
        position = call.got.get(s.row)
        end = s.position + s.tokens
        if position is None or not s.position <= position < end or end > call.after[s.row]:
            return
        first = call.after[s.row] - call.slices[s.row].keep
        at = self._offsets[s.row] - first
        self.hidden[at + position : at + end] = hidden[position - s.position :]
        call.got[s.row] = end
