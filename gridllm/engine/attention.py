"""Ragged attention: tokens of many sequences in one row, each attending to its own cache.

transformers calls a registered attention function with whatever the cache's ``update`` returned as keys and values.
Ours returns a ``LayerView`` instead of tensors, so the function finds the sequences of the pass without globals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from gridllm.engine.cache import RowCache
from gridllm.errors import ModelError

RAGGED: Final = "gridllm_ragged"


@dataclass(slots=True)
class Segment:
    """One row's tokens within a pass."""

    cache: RowCache
    position: int  # of the first token, within the row
    tokens: int
    masks: dict[int | None, tuple[int, torch.Tensor | None]] = field(default_factory=dict)  # per sliding window

    def mask(self, window: int | None, device: torch.device) -> tuple[int, torch.Tensor | None]:
        """First position any token of this segment sees, and a [tokens, seen] bool mask where one is needed."""
        if window not in self.masks:
            end = self.position + self.tokens
            first = 0 if window is None else max(0, self.position - window + 1)
            needed = self.tokens > 1 and (self.position > 0 or (window is not None and self.tokens > window))
            mask = None
            if needed:
                query = torch.arange(self.position, end, device=device)[:, None]
                key = torch.arange(first, end, device=device)[None, :]
                mask = key <= query
                if window is not None:
                    mask &= key > query - window
            self.masks[window] = first, mask
        return self.masks[window]


@dataclass(slots=True)
class LayerView:
    """Stands where transformers expects the keys (and values) of one layer."""

    layer: int  # local index into the row caches
    segments: list[Segment]


class RaggedCache:
    """Stands where transformers expects a ``Cache``: writes each segment's keys and values into its own row."""

    is_compileable = False
    is_sliding = (False,)

    def __init__(self, segments: list[Segment], first_layer: int) -> None:
        self.segments = segments
        self.first_layer = first_layer

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[LayerView, LayerView]:
        """Store [1, kv_heads, all tokens, head_dim] of model layer ``layer_idx``."""
        layer = layer_idx - self.first_layer
        offset = 0
        for segment in self.segments:
            end = offset + segment.tokens
            segment.cache.write(layer, segment.position, keys[0, :, offset:end], values[0, :, offset:end])
            offset = end
        view = LayerView(layer, self.segments)
        return view, view

    # What transformers asks when it prepares masks; the ragged mask function ignores the answers.
    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: LayerView,
    value: LayerView,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of ``query`` [1, heads, all tokens, head_dim], each segment over its own row.

    Returns [1, all tokens, heads, value head_dim]. ``softcap`` bounds the scores as Gemma 2 does; ``s_aux`` holds one
    sink logit per head as in gpt-oss.
    """
    if not isinstance(key, LayerView):
        raise ModelError(f"{type(module).__name__} changes its keys after caching them; it cannot be batched raggedly.")
    outputs = []
    offset = 0
    for segment in key.segments:
        end = segment.position + segment.tokens
        first, mask = segment.mask(sliding_window, query.device)
        keys, values = segment.cache.read(key.layer, first, end)
        part = query[:, :, offset : offset + segment.tokens]
        if softcap is None and s_aux is None:
            outputs.append(
                scaled_dot_product_attention(
                    part,
                    keys,
                    values,
                    attn_mask=mask,
                    is_causal=mask is None and segment.tokens > 1,
                    scale=scaling,
                    enable_gqa=part.shape[1] != keys.shape[1],
                )
            )
        else:
            outputs.append(_spelled_out(part, keys, values, mask, scaling, softcap, s_aux))
        offset += segment.tokens
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return joined.transpose(1, 2), None


def _spelled_out(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention written out, for what the fused kernel lacks: soft-capped scores and sinks."""
    groups = query.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
    scores = query @ keys.transpose(2, 3) * (scaling if scaling is not None else 1 / math.sqrt(query.shape[-1]))
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is None and query.shape[2] > 1:
        mask = torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return weights[..., : keys.shape[2]] @ values


def register() -> None:
    """Make ``RAGGED`` known to transformers; idempotent."""
    AttentionInterface.register(RAGGED, ragged_attention)
    AttentionMaskInterface.register(RAGGED, lambda *_, **__: None)
