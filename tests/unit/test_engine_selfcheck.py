"""A span that would not batch exactly is refused before it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from gridllm.engine import attention
from gridllm.engine.selfcheck import verify_batching
from gridllm.errors import ModelError
from gridllm.models.span import load_span
from tests.unit.tiny_models import FAMILIES, make_model


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_proven_family_passes(family: str, tmp_path: Path) -> None:
    attention.register()
    span = load_span(make_model(family, tmp_path).folder, None, 1, 4, attn=attention.RAGGED)
    assert verify_batching(span) is span


def test_a_wrong_attention_is_noticed(tmp_path: Path) -> None:
    def careless(*args: Any, scaling: float | None = None, **kwargs: Any) -> tuple[torch.Tensor, None]:
        return attention.ragged_attention(*args, scaling=0.9 * (scaling or 1.0), **kwargs)

    attention.register()
    span = load_span(make_model("llama", tmp_path).folder, None, 0, 5, attn=attention.RAGGED)
    AttentionInterface.register(attention.RAGGED, careless)
    try:
        with pytest.raises(ModelError, match="other results in a batch"):
            verify_batching(span)
    finally:
        AttentionInterface.register(attention.RAGGED, attention.ragged_attention)
