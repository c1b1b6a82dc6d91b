"""Before a span serves: does batching give what transformers' own attention gives?

Families beyond those the tests prove may do something with attention that ours does not know of. A few random tokens
through both paths tell, while nobody depends on the answer yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from gridllm.engine.attention import RAGGED, RaggedCache, Segment
from gridllm.engine.cache import RowCache
from gridllm.engine.sequential import SequentialCache
from gridllm.errors import ModelError
from gridllm.models.families import plain_attention
from gridllm.models.span import Span

TOKENS: Final = 9
PIECES: Final = ((0, 5), (5, 8), (8, 9))  # a prompt in two chunks, then a decoding step
TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}  # relative, of the update


@torch.inference_mode()
def verify_batching(span: Span) -> Span:
    """The span, once its batched path was seen to equal the plain one; a span that is not batched passes as it is.

    Compares the update (output minus input): the residual stream would hide a wrong block.

    Raises:
        ModelError: the two differ.
    """
    if not span.ragged:
        return span
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, TOKENS, span.hidden_size, generator=generator).to(span.device, span.dtype)
    with _attention(span, plain_attention(span.config)):
        plain = torch.stack([_alone(span, row) for row in hidden])
    batched = _together(span, hidden)
    wanted = (plain - hidden).float()
    error = float(((batched - hidden).float() - wanted).norm() / wanted.norm().clamp_min(1e-30))
    if not error <= TOLERANCE[span.dtype]:
        raise ModelError(
            f"Blocks {span.start}:{span.end} of this {span.config.model_type} model give other results in a batch than "
            f"alone (relative difference {error:.2g}), so GridLLM cannot serve this family; please report it."
        )
    return span


def _alone(span: Span, row: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(TOKENS, device=span.device)[None]
    segment = Segment(_rows(span, 1)[0], 0, TOKENS)
    return span.forward(row[None], positions, SequentialCache(segment, span.start))[0]


def _together(span: Span, hidden: torch.Tensor) -> torch.Tensor:
    rows = _rows(span, len(hidden))
    outputs = []
    for start, end in PIECES:
        segments = [Segment(row, start, end - start) for row in rows]
        positions = torch.arange(start, end, device=span.device).repeat(len(rows))[None]
        joined = hidden[:, start:end].reshape(1, -1, span.hidden_size)
        output = span.forward(joined, positions, RaggedCache(segments, span.start))
        outputs.append(output.view(len(rows), end - start, -1))
    return torch.cat(outputs, dim=1)


def _rows(span: Span, count: int) -> list[RowCache]:
    rows = [RowCache(span.cache_shapes(), span.dtype, span.device) for _ in range(count)]
    for row in rows:
        row.reserve(TOKENS)
    return rows


@contextmanager
def _attention(span: Span, name: str) -> Iterator[None]:
    """Run the span with another attention for a while."""
    configs = {id(span.config): span.config}
    configs |= {id(m.config): m.config for m in span.base.modules() if hasattr(m, "config")}
    for config in configs.values():
        config._attn_implementation = name
    try:
        yield
    finally:
        for config in configs.values():
            config._attn_implementation = RAGGED
