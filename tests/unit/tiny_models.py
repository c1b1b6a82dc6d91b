"""Tiny random models of many families, written as real checkpoints, and a plain cache for their spans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache, PreTrainedModel

LAYERS = 5
VOCAB = 160
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "qwen2": COMMON,
    "qwen3": COMMON | {"head_dim": 16},
    "mistral": COMMON | {"sliding_window": 6, "head_dim": 12},
    "mixtral": COMMON | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "gemma2": COMMON | {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16},
    "gemma3_text": COMMON | {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16},
    "gpt2": {"vocab_size": VOCAB, "n_embd": 48, "n_layer": LAYERS, "n_head": 4, "n_positions": 256},
    "gpt_neox": COMMON,
    "olmo2": COMMON,
    "phi3": COMMON | {"original_max_position_embeddings": 256},
    "phi3-longrope": COMMON
    | {
        "original_max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            "long_factor": [2.0] * 6,
        },
    },
    "falcon": COMMON | {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "falcon-7b": COMMON | {"new_decoder_architecture": False, "multi_query": True, "alibi": False},
    "falcon-rw": COMMON | {"new_decoder_architecture": False, "multi_query": False, "alibi": True},
    "bloom": {"vocab_size": VOCAB, "hidden_size": 48, "n_layer": LAYERS, "n_head": 4},
    "granite": COMMON | {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    "qwen3_moe": COMMON | {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "olmoe": COMMON | {"num_experts": 4, "num_experts_per_tok": 2},
    "phi": COMMON,
    "cohere": COMMON | {"logit_scale": 0.25},
    "starcoder2": COMMON,
    "smollm3": COMMON,
    "deepseek_v3": COMMON
    | {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 20,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 12,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "olmo3": COMMON | {"sliding_window": 6},
    "stablelm": COMMON | {"partial_rotary_factor": 0.5},
    "gpt_bigcode": {"vocab_size": VOCAB, "n_embd": 48, "n_layer": LAYERS, "n_head": 4, "n_positions": 256},
    "gpt_oss": COMMON | {"head_dim": 12, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6},
}


@dataclass(frozen=True)
class Tiny:
    """A checkpoint on disk and the whole model it came from."""

    folder: Path
    model: PreTrainedModel


def make_model(family: str, folder: Path, **changes: Any) -> Tiny:
    """Write a random model of ``family`` to ``folder`` and read it back the plain way."""
    torch.manual_seed(7)
    fields = {key: value for key, value in (FAMILIES[family] | changes).items() if value is not ...}
    config = CONFIG_MAPPING[family.partition("-")[0]](**fields)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms and biases start as ones and zeros: make every tensor count.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(3.0)
            del name
    model.save_pretrained(folder)
    return Tiny(folder, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


class SpanCache(DynamicCache):
    """A growing cache of one sequence for a span that starts at block ``start``."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """As DynamicCache, with the layer's number in the whole model."""
        return super().update(key_states, value_states, layer_idx - self.start, *args, **kwargs)
