"""Every family of the issue over chains of 1, 2, 3 and 5 real node processes: the local model's text, token by token.

``tests/unit/test_chain_exact.py`` shows the same for more families with real nodes on the in-memory network.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gridllm_client import Grid, GridModel
from gridllm_client.generation import tokens_of
from gridllm_client.sampling import Picker, generation_config
from tests.swarm.grid import process_grid
from tests.unit.reference import local_greedy
from tests.unit.tiny_models import VOCAB, make_model

FAMILIES = [
    *("llama", "qwen3", "gpt2", "mistral", "mixtral", "gemma2", "gemma3_text"),
    *("gpt_neox", "olmo2", "phi3", "falcon", "falcon-7b", "falcon-rw", "bloom"),
]
CHAINS = (("0:5",), ("0:2", "2:5"), ("0:1", "1:4", "4:5"), ("0:1", "1:2", "2:3", "3:4", "4:5"))
NEW_TOKENS = 24


async def greedy(model: GridModel, prompt: list[int], nodes: int) -> list[int]:
    config = generation_config(model.ends.model, temperature=0)
    config.eos_token_id = None
    session = model.session()
    pick = Picker(model.ends.model, config, len(prompt), seed=None)
    try:
        tokens = [token async for token in tokens_of(session, model.ends, prompt, pick, NEW_TOKENS)]
        assert len(session.chain) == nodes
        return tokens
    finally:
        session.close()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_over_processes_equals_local(family: str, tmp_path: Path) -> None:
    tiny = make_model(family, tmp_path / "model")
    torch.manual_seed(11)
    prompt = torch.randint(3, VOCAB, (19,))
    expected = local_greedy(tiny, prompt, NEW_TOKENS)
    with process_grid(tmp_path / "grid", model=str(tiny.folder), dtype="float32") as grid:
        for spans in CHAINS:
            numbers = grid.add(*spans, extra=["--path", str(tiny.folder), "--cache-tokens", "1024"])
            with Grid(grid.data_dir) as client:
                model = client.model(path=tiny.folder)
                assert model.runtime.run(greedy(model, prompt.tolist(), len(spans))) == expected
            for number in numbers:
                assert grid.stop(number) == 0
