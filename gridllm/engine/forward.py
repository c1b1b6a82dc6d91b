"""One pass: steps of many sessions joined into one row of tokens, through the span, and apart again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from gridllm.engine.attention import RaggedCache, Segment
from gridllm.engine.cache import RowCache, SessionCache
from gridllm.engine.sequential import SequentialCache
from gridllm.models.span import Span
from gridllm.wire.messages import RowSlice


class Pass(Protocol):
    """What a pass needs of a step; it fills ``output``."""

    session: SessionCache
    slices: Sequence[RowSlice]
    hidden: torch.Tensor
    capacities: list[int]
    blocks: tuple[int, int]
    output: torch.Tensor | None


@torch.inference_mode()
def run_pass(span: Span, steps: Sequence[Pass]) -> None:
    """Take all ``steps`` (same blocks, distinct sessions) through the span and set their outputs.

    A row's length advances only when the pass succeeded; a failed pass leaves every row cut to where the step began.
    """
    segments = [segment for step in steps for segment in _prepare(step)]
    start, end = steps[0].blocks
    part = span.view(start, end)
    hidden = steps[0].hidden if len(steps) == 1 else torch.cat([step.hidden for step in steps])
    positions = _positions(segments)
    hidden = hidden.to(span.device)[None]
    positions = positions.to(span.device)[None]
    if span.ragged:
        result = part.forward(hidden, positions, RaggedCache(segments, start))
    else:
        result = one_by_one(part, hidden, positions, segments, start)
    output = result[0].to("cpu")
    for segment in segments:
        segment.cache.length = segment.position + segment.tokens
    offset = 0
    for step in steps:
        tokens = step.hidden.shape[0]
        step.output = output[offset : offset + tokens]
        offset += tokens


def _prepare(step: Pass) -> list[Segment]:
    """Cut, fork and make room in the rows a step touches; all sources are read before any row changes."""
    rows = step.session.rows
    forks: dict[int, RowCache] = {
        s.row: rows[s.source].fork(s.position, step.capacities[s.row]) for s in step.slices if s.source != s.row
    }
    segments = []
    for s in step.slices:
        if s.row in forks:
            rows[s.row] = forks[s.row]
        cache = rows[s.row]
        cache.length = s.position
        cache.reserve(step.capacities[s.row])
        segments.append(Segment(cache, s.position, s.tokens))
    return segments


def _positions(segments: list[Segment]) -> torch.Tensor:
    if all(segment.tokens == 1 for segment in segments):
        return torch.tensor([segment.position for segment in segments])
    return torch.cat([torch.arange(s.position, s.position + s.tokens) for s in segments])


def one_by_one(
    span: Span, hidden: torch.Tensor, positions: torch.Tensor, segments: list[Segment], start: int
) -> torch.Tensor:
    """For families that are not batched: each segment's tokens of hidden [1, T, H] in a pass of its own."""
    outputs = []
    offset = 0
    for segment in segments:
        end = offset + segment.tokens
        cache = SequentialCache(segment, start)
        outputs.append(span.forward(hidden[:, offset:end], positions[:, offset:end], cache))
        offset = end
    return torch.cat(outputs, dim=1)
