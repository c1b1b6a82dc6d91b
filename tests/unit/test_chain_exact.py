"""Greedy text over chains of 1, 2, 3 and 5 nodes equals the local transformers model, for every family."""

from __future__ import annotations

import pytest
import torch

from gridllm.wire.messages import RowSlice
from gridllm_client.generation import tokens_of
from gridllm_client.sampling import Picker, generation_config
from tests.unit.memory_grid import memory_grid
from tests.unit.reference import local_greedy
from tests.unit.tiny_models import FAMILIES, LAYERS, VOCAB, Tiny, make_model

CHAINS = {1: (0, 5), 2: (0, 2, 5), 3: (0, 1, 4, 5), 5: (0, 1, 2, 3, 4, 5)}
FINAL_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm")
PROMPT_TOKENS = 19
NEW_TOKENS = 24


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def prompt() -> torch.Tensor:
    return torch.randint(3, VOCAB, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(tiny: Tiny, prompt: torch.Tensor) -> list[int]:
    """What transformers makes of the prompt on its own."""
    return local_greedy(tiny, prompt, NEW_TOKENS)


@pytest.mark.parametrize("nodes", sorted(CHAINS))
async def test_greedy_text_equals_local(tiny: Tiny, prompt: torch.Tensor, expected: list[int], nodes: int) -> None:
    async with memory_grid(tiny.folder, LAYERS, CHAINS[nodes]) as grid:
        lm = grid.ends.causal_lm(torch.nn.Identity())
        config = generation_config(lm, temperature=0)
        config.eos_token_id = None
        pick = Picker(lm, config, len(prompt), seed=None)
        session = grid.session()
        tokens = [token async for token in tokens_of(session, grid.ends, prompt.tolist(), pick, NEW_TOKENS)]
        assert len(session.chain) == nodes
        session.close()
    assert tokens == expected


async def test_hidden_states_equal_local(tiny: Tiny) -> None:
    torch.manual_seed(3)
    ids = torch.randint(3, VOCAB, (PROMPT_TOKENS,))
    with torch.inference_mode():
        base = tiny.model.base_model
        norm = next(module for name, module in base.named_children() if name in FINAL_NORMS)
        caught: list[torch.Tensor] = []
        hook = norm.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        base(input_ids=ids[None], use_cache=False)
        hook.remove()
    async with memory_grid(tiny.folder, LAYERS, CHAINS[3]) as grid:
        session = grid.session()
        hidden = grid.ends.embed(ids, torch.arange(len(ids)))
        first = await session.forward((RowSlice(0, 0, 0, 11, 11),), hidden[:11])
        rest = [await session.forward((RowSlice(0, 0, p, 1, 1),), hidden[p : p + 1]) for p in range(11, len(ids))]
        session.close()
    assert (torch.cat([first, *rest]) - caught[0][0]).abs().max() < 1e-5
