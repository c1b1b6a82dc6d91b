"""transformers' own generate() over the grid, for families whose forward passes differ most."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import torch

from gridllm_client.loaded import Loaded
from gridllm_client.model import GridModel
from gridllm_client.runtime import Runtime
from gridllm_client.terms import Terms
from tests.unit.memory_grid import ROOT, MemoryGrid, memory_grid
from tests.unit.tiny_models import LAYERS, VOCAB, make_model

FAMILIES = ("qwen3", "mistral", "mixtral", "gemma3_text", "gpt_neox", "olmo2", "phi3", "falcon", "falcon-rw", "bloom")


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batches_beams_and_seeds_equal_local(family: str, tmp_path: Path):
    tiny = make_model(family, tmp_path)
    runtime = Runtime()
    stack = AsyncExitStack()

    async def enter() -> MemoryGrid:
        return await stack.enter_async_context(memory_grid(tiny.folder, LAYERS, (0, 2, 5)))

    async def leave() -> None:
        await stack.aclose()

    grid = runtime.run(enter())
    try:
        terms = Terms(model=ROOT, blocks=LAYERS, hidden_size=grid.ends.hidden_size, dtype=torch.float32)
        model = GridModel(runtime, grid.pool, Loaded(family, terms, grid.routes(), grid.ends))
        torch.manual_seed(4)
        ids = torch.randint(3, VOCAB, (3, 14))
        mask = torch.ones_like(ids)
        mask[1, :5] = 0
        mask[2, :9] = 0
        ids = ids * mask
        for wishes in ({"do_sample": False}, {"do_sample": False, "num_beams": 3}, {"do_sample": True, "top_k": 20}):
            outs = []
            for one in (tiny.model, model.hf):
                torch.manual_seed(6)
                outs.append(
                    one.generate(ids, attention_mask=mask, max_new_tokens=10, pad_token_id=0, eos_token_id=2, **wishes)
                )
            assert torch.equal(*outs), wishes
    finally:
        runtime.close(leave(), 20)
