"""Cutting calls and frames: whatever the cut, the rows end up the same, and the same positions come back."""

from __future__ import annotations

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from gridllm.wire.messages import MAX_BODY_BYTES, RowSlice
from gridllm_client.frames import calls, chunk_tokens, frames


def some_step(rng: random.Random, lengths: list[int]) -> list[RowSlice]:
    slices = []
    for row in rng.sample(range(len(lengths)), rng.randint(1, len(lengths))):
        source = rng.randrange(len(lengths)) if rng.random() < 0.4 else row
        cut = rng.randint(0, lengths[source]) if rng.random() < 0.4 else lengths[source]
        tokens = rng.randint(1, 12)
        slices.append(RowSlice(row, source, cut, tokens, rng.randint(1, tokens)))
    return slices


def apply(rows: list[list[float]], slices: list[RowSlice], hidden: torch.Tensor) -> dict[int, list[float]]:
    """The rule of docs/protocol.md; returns the kept positions by row."""
    old, offset, kept = [list(row) for row in rows], 0, {}
    for s in slices:
        assert len(old[s.source]) >= s.position
        rows[s.row] = old[s.source][: s.position] + hidden[offset : offset + s.tokens, 0].tolist()
        kept[s.row] = rows[s.row][len(rows[s.row]) - s.keep :]
        offset += s.tokens
    return kept


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20))
def test_calls_and_frames_do_what_the_step_does(seed: int, rows: int, most: int, chunk: int):
    rng = random.Random(seed)
    lengths = [rng.randint(0, 9) for _ in range(rows)]
    start = [[row + i / 100 for i in range(length)] for row, length in enumerate(lengths)]
    slices = some_step(rng, lengths)
    hidden = torch.rand(sum(s.tokens for s in slices), 1, dtype=torch.float64)
    expected = [list(row) for row in start]
    wanted = apply(expected, slices, hidden)

    got = [list(row) for row in start]
    back: dict[int, list[float]] = {s.row: [] for s in slices}
    for call, part, asked in calls(slices, hidden, most):
        before = [len(row) for row in got]
        kept: dict[int, list[float]] = {s.row: [] for s in call}
        for number, (pieces, tensor) in enumerate(frames(call, before, part, chunk)):
            assert tensor.shape[0] == sum(p.tokens for p in pieces) <= max(chunk, len(pieces))
            if number:  # everything that is cut or moved came with the first frame
                assert all(p.source == p.row and p.position == len(got[p.row]) for p in pieces)
            for row, values in apply(got, pieces, tensor).items():
                kept[row] += values
        for s, count in zip(call, asked, strict=True):
            assert len(kept[s.row]) == s.keep >= 1
            back[s.row] += kept[s.row][len(kept[s.row]) - count :]
    assert got == expected
    assert back == wanted


@given(st.integers(1, 9), st.integers(1, 200_000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_frame_fits_the_wire(hops: int, hidden_size: int, dtype: torch.dtype):
    tokens = chunk_tokens(hops, hidden_size, dtype)
    assert tokens == 1 or tokens * hidden_size * dtype.itemsize <= MAX_BODY_BYTES
