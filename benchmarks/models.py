"""Random Llamas of the two sizes that all speed figures speak of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from gridllm.demo_model import demo_model_path


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of a random Llama, and how many tokens a measurement of it takes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    new_tokens: int


SIZES: Final = {
    "small": Size(8, 256, 688, 8, 4096, 96),  # 8.4 M parameters
    "medium": Size(16, 1024, 2816, 16, 20_000, 32),  # 246 M
}


def make_model(name: str, folder: Path) -> Path:
    """Write a random float32 Llama with the demo model's tokenizer; it never ends a text by itself."""
    size = SIZES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder / name)
    AutoTokenizer.from_pretrained(demo_model_path()).save_pretrained(folder / name)
    return folder / name
