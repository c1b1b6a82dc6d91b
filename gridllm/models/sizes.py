"""What a model's blocks weigh, read off its manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gridllm.models.manifest import Manifest

_BLOCK_NUMBER: Final = re.compile(r"(?:^|\.)(\d{1,4})\.")  # the first number in a tensor's name; experts come after it
ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class BlockSize:
    """One block of a model in memory; the largest, where they differ."""

    weight_bytes: int
    cache_bytes_per_token: int


def block_size(manifest: Manifest, dtype: str) -> BlockSize:
    """Size of a block when held in ``dtype``."""
    largest = max(block_parameters(manifest), default=0)
    return BlockSize(largest * ITEM_BYTES[dtype], _cache_items_per_token(manifest.config) * ITEM_BYTES[dtype])


def block_parameters(manifest: Manifest) -> list[int]:
    """Parameters of each block, by its number."""
    items: dict[int, int] = {}
    for name, tensor in manifest.tensors.items():
        match = _BLOCK_NUMBER.search(name)
        if match is not None:
            items[int(match[1])] = items.get(int(match[1]), 0) + math.prod(tensor.shape)
    return [items.get(number, 0) for number in range(max(items, default=-1) + 1)]


def _cache_items_per_token(config: Mapping[str, Any]) -> int:
    """Numbers one block caches for a token: never fewer than the family will, where the config leaves it open."""
    config = {**config, **(config.get("text_config") or {})}
    heads = _first(config, "num_attention_heads", "n_head", "num_heads") or 1
    hidden = _first(config, "hidden_size", "n_embd", "d_model") or 0
    if config.get("kv_lora_rank"):
        key = (config.get("qk_nope_head_dim") or 0) + (config.get("qk_rope_head_dim") or 0)
        return heads * (key + (config.get("v_head_dim") or key))
    kv_heads = _first(config, "num_key_value_heads", "num_kv_heads", "n_head_kv") or heads
    head_dim = config.get("head_dim") or -(-hidden // heads)
    return int(2 * kv_heads * head_dim)


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None
