"""One sequence at a time, for families whose attention does not go through transformers' interface."""

from __future__ import annotations

from typing import Any

import torch

from gridllm.engine.attention import Segment


class SequentialCache:
    """Stands where transformers expects a ``Cache`` of batch 1; keys and values live in the segment's row."""

    is_compileable = False
    is_sliding = (False,)

    def __init__(self, segment: Segment, first_layer: int) -> None:
        self.segment = segment
        self.first_layer = first_layer

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store [1, kv_heads, tokens, head_dim]; returns all keys and values up to the last token."""
        layer = layer_idx - self.first_layer
        self.segment.cache.write(layer, self.segment.position, keys[0], values[0])
        return self.segment.cache.read(layer, 0, self.segment.position + self.segment.tokens)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens cached before this pass."""
        return self.segment.position

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Position of the first query."""
        return self.segment.position

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(keys seen, position of the first)."""
        return self.segment.position + query_length, 0
