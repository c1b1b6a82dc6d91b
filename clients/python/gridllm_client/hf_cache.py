"""The cache object that transformers passes around: it holds no keys and values, but knows the session that does."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache

from gridllm.errors import UsageError
from gridllm.wire.messages import RowSlice
from gridllm_client.runtime import Runtime
from gridllm_client.session import Session

SessionMaker = Callable[..., Session]


class GridCache(Cache):
    """Which tokens of which batch row the grid holds.

    transformers counts columns, padding included; a session counts tokens. Batch row b is session row b; after beams
    were reordered it continues from ``source[b]`` with the next step.
    """

    is_compileable = False
    is_croppable = True

    def __init__(self, runtime: Runtime, make_session: SessionMaker) -> None:
        super().__init__(layers=[])
        self._runtime = runtime
        self._make_session = make_session
        self._session: Session | None = None
        self._closer: Any = None
        self._real = torch.zeros(0, 0, dtype=torch.bool)  # [B, columns]: not padding
        self._counts: list[int] = []  # per batch row: its tokens
        self._source: list[int] = []  # per batch row: the session row it continues from
        self._history: list[torch.Tensor] | None = None  # per batch row, when a new session must be fed from the start

    @property
    def session(self) -> Session | None:
        """The session behind; None before the first step."""
        return self._session

    def advance(self, hidden: torch.Tensor, real: torch.Tensor | None, keep: int) -> torch.Tensor:
        """Take a step with every batch row.

        Args:
            hidden: [B, T, H], as the first block gets it.
            real: [B, at least T] bool, False at padding; the last T columns count. None: nothing is padded.
            keep: trailing columns whose output is wanted; 0: all.

        Returns:
            [B, T, H] as the last block returned it; zeros where not asked for, and at padding.
        """
        batch, columns, _ = hidden.shape
        now = torch.ones(batch, columns, dtype=torch.bool) if real is None else real[:, -columns:]
        first = self._real.shape[1] == 0
        if first:
            self._counts, self._source = [0] * batch, list(range(batch))
            self._real = torch.zeros(batch, 0, dtype=torch.bool)
        elif batch != len(self._counts):
            raise UsageError(f"A batch of {batch} does not fit a cache of {len(self._counts)} rows.")
        keep = columns if keep < 1 else min(keep, columns)
        twins = _twins(hidden, now) if first and batch > 1 else list(range(batch))
        slices: list[RowSlice] = []
        parts: list[torch.Tensor] = []
        places: list[torch.Tensor] = []  # per slice: columns of its kept positions
        for row in range(batch):
            at = now[row].nonzero()[:, 0]
            if twins[row] != row or not len(at):
                self._check_still(row, twins[row] != row)
                continue
            fed = hidden[row, at]
            position, source = self._counts[row], self._source[row]
            if self._history is not None:
                fed, position, source = torch.cat([self._history[row], fed]), 0, row
            kept = max(1, int((at >= columns - keep).sum()))
            slices.append(RowSlice(row, source, position, len(fed), kept))
            parts.append(fed)
            places.append(at[-kept:])
        out = torch.zeros_like(hidden)
        if slices:
            result = self._forward(batch, slices, torch.cat(parts))
            offset = 0
            for s, place in zip(slices, places, strict=True):
                out[s.row, place] = result[offset : offset + s.keep]
                offset += s.keep
        for row, twin in enumerate(twins):
            if twin != row:
                out[row] = out[twin]
        self._source = twins
        self._history = None
        self._counts = [count + int(n) for count, n in zip(self._counts, now.sum(1), strict=True)]
        self._real = torch.cat([self._real, now], dim=1)
        return out

    def close(self) -> None:
        """Free the nodes' caches; never waits."""
        if self._closer is not None:
            self._closer()
        self._session = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns held, padding included."""
        return int(self._real.shape[1])

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(columns with the next step's, offset of the first)."""
        return self.get_seq_length() + query_length, 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Column of the next step's first."""
        return self.get_seq_length()

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: grows as far as the nodes have room."""
        return -1

    def activate_past_recording(self) -> None:
        """Nothing to do: any past can be cropped."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Batch row b continues from what row ``beam_idx[b]`` holds."""
        self._take(beam_idx.tolist())

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these batch rows, in this order."""
        indices = indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices
        self._take(indices.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each batch row becomes ``repeats`` rows."""
        self._take([row for row in range(len(self._counts)) for _ in range(repeats)])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` columns."""
        if tokens_to_remove > 0:
            raise UsageError(f"crop({tokens_to_remove}) is no longer known; give minus the number of tokens to remove.")
        if tokens_to_remove:
            self._real = self._real[:, :tokens_to_remove]
            self._counts = [int(n) for n in self._real.sum(1)]

    def reset(self) -> None:
        """Forget everything."""
        self.close()
        self._real = torch.zeros(0, 0, dtype=torch.bool)

    def _take(self, rows: list[int]) -> None:
        session = self._session
        if session is not None and len(rows) > session.terms.rows:
            held = [session.history(self._source[row])[: self._counts[row]] for row in rows]
            self.close()
            self._history = held
        elif self._history is not None:
            self._history = [self._history[row] for row in rows]
        self._source = list(range(len(rows))) if self._history is not None else [self._source[row] for row in rows]
        self._counts = [self._counts[row] for row in rows]
        self._real = self._real[rows]

    def _forward(self, batch: int, slices: list[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
        if self._session is None:
            session = self._make_session(rows=batch)
            self._session = session
            self._closer = weakref.finalize(self, self._runtime.soon, session.close)
        return self._runtime.run(_step(self._session, slices, hidden.detach().contiguous()))

    def _check_still(self, row: int, twin: bool) -> None:
        if not twin and self._source[row] != row and self._counts[row]:
            raise UsageError(f"Batch row {row} was reordered and gets padding only; that cannot run on the grid.")


async def _step(session: Session, slices: list[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
    await session.open()
    return await session.forward(slices, hidden)


def _twins(hidden: torch.Tensor, real: torch.Tensor) -> list[int]:
    """Per batch row the first row that equals it: beams of one prompt are computed once."""
    firsts: list[int] = []
    twins = []
    for row in range(hidden.shape[0]):
        same = (f for f in firsts if torch.equal(real[f], real[row]) and torch.equal(hidden[f], hidden[row]))
        twins.append(next(same, row))
        if twins[-1] == row:
            firsts.append(row)
    return twins
