"""KV caches: one buffer per row of a session, cut and appended by position, within a budget of tokens.

The event loop decides how large a row may become (``TokenBudget``); the worker thread alone touches the buffers.
"""

from __future__ import annotations

from typing import Final

import torch

from gridllm.errors import Full

PAGE_TOKENS: Final = 64  # rows grow by at least this much


class TokenBudget:
    """How many tokens of KV cache this node may hold, all sessions together. Event loop only."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total

    def grow(self, capacity: int, tokens: int) -> int:
        """New capacity of a row of ``capacity`` that must hold ``tokens``; takes the difference from the budget.

        Grows by half again, so that copying stays linear, or by as little as the budget allows.

        Raises:
            Full: even ``tokens`` alone do not fit.
        """
        if tokens <= capacity:
            return capacity
        wanted = _pages(max(tokens, capacity + capacity // 2))
        if wanted - capacity > self.free:
            wanted = _pages(tokens)
        if wanted - capacity > self.free:
            raise Full(
                f"This node's KV cache has room for {self.free} more tokens and the step needs {wanted - capacity}; "
                f"try another node."
            )
        self.free -= wanted - capacity
        return wanted

    def release(self, capacity: int) -> None:
        """Give back a row's capacity."""
        self.free += capacity

    def resize(self, total: int) -> None:
        """Hold so many from now on; sessions keep what they have, so ``total`` is not below that."""
        total = max(total, self.total - self.free)
        self.free += total - self.total
        self.total = total


class RowCache:
    """Keys and values of one row for the layers of a span: per layer [kv_heads, capacity, head_dim]. Worker only."""

    __slots__ = ("_keys", "_values", "length")

    def __init__(self, shapes: list[tuple[int, int, int]], dtype: torch.dtype, device: torch.device) -> None:
        self._keys = [torch.empty(heads, 0, dim, dtype=dtype, device=device) for heads, dim, _ in shapes]
        self._values = [torch.empty(heads, 0, dim, dtype=dtype, device=device) for heads, _, dim in shapes]
        self.length = 0
        """Tokens held; positions beyond it are garbage."""

    def twin(self) -> RowCache:
        """Another row that begins with the same buffers; an empty row of a session so costs next to nothing."""
        copy = RowCache.__new__(RowCache)
        copy._keys, copy._values, copy.length = list(self._keys), list(self._values), self.length
        return copy

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens, keeping the first ``length``."""
        for buffers in (self._keys, self._values):
            for i, old in enumerate(buffers):
                if old.shape[1] < capacity:
                    buffers[i] = old.new_empty(old.shape[0], capacity, old.shape[2])
                    buffers[i][:, : self.length] = old[:, : self.length]

    def fork(self, length: int, capacity: int) -> RowCache:
        """A copy of the first ``length`` tokens with room for ``capacity``, for a beam that continues from this row."""
        copy = RowCache.__new__(RowCache)
        for name in ("_keys", "_values"):
            buffers = [old.new_empty(old.shape[0], capacity, old.shape[2]) for old in getattr(self, name)]
            for new, old in zip(buffers, getattr(self, name), strict=True):
                new[:, :length] = old[:, :length]
            setattr(copy, name, buffers)
        copy.length = length
        return copy

    def write(self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put [kv_heads, tokens, head_dim] at positions ``start`` and up of local ``layer``."""
        end = start + keys.shape[1]
        self._keys[layer][:, start:end] = keys
        self._values[layer][:, start:end] = values

    def read(self, layer: int, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views [1, kv_heads, end - start, head_dim] of keys and values."""
        return self._keys[layer][None, :, start:end], self._values[layer][None, :, start:end]


class SessionCache:
    """The rows of one session on blocks [start, end), numbered as in the whole model."""

    def __init__(self, rows: list[RowCache], start: int, end: int) -> None:
        self.rows = rows  # worker thread only
        self.capacities = [0] * len(rows)  # event loop only: what the budget granted
        self.queued_tokens = 0  # event loop only: submitted and not yet computed
        self.start = start
        self.end = end


def _pages(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS) * PAGE_TOKENS
