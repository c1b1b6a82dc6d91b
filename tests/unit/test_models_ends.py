"""The client's causal LM: ``generate()`` over a grid layer equals ``generate()`` of the plain model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gridllm.errors import ModelError
from gridllm.models.ends import Ends
from gridllm.models.span import load_span
from tests.unit.tiny_models import LAYERS, SpanCache, Tiny, make_model

REPRESENTATIVE = ("llama", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "falcon-rw", "bloom", "mixtral")


class LocalGrid(nn.Module):
    """Runs all blocks here, each sequence of the batch by itself, without padding: what a grid does."""

    def __init__(self, tiny: Tiny) -> None:
        super().__init__()
        self.spans = [load_span(tiny.folder, None, a, b) for a, b in ((0, 3), (3, LAYERS))]
        self.caches: list[list[SpanCache]] = []

    def forward(
        self,
        hidden: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        past_key_values: Any,
    ) -> torch.Tensor:
        batch, tokens, _ = hidden.shape
        past = past_key_values.get_seq_length()
        past_key_values.update(hidden.new_zeros(batch, 1, tokens, 1), hidden.new_zeros(batch, 1, tokens, 1), 0)
        if past == 0:
            self.caches = [[SpanCache(span.start) for span in self.spans] for _ in range(batch)]
        out = torch.zeros_like(hidden)
        for row in range(batch):
            real = torch.ones(past + tokens, dtype=torch.bool)
            if attention_mask is not None:
                assert attention_mask.shape == (batch, past + tokens)
                real = attention_mask[row]
            keep = real[past:]
            before = int(real[:past].sum())
            positions = torch.arange(before, before + int(keep.sum()))[None]
            part = hidden[row, keep][None]
            for span, cache in zip(self.spans, self.caches[row], strict=True):
                part = span.forward(part, positions, cache)
            out[row, keep] = part[0]
        return out


@pytest.fixture(scope="module", params=REPRESENTATIVE)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.set_num_threads(1)
    return make_model(request.param, tmp_path_factory.mktemp(request.param))


def test_greedy_generate_equals_local(tiny: Tiny) -> None:
    ids = torch.randint(3, 150, (1, 11), generator=torch.Generator().manual_seed(5))
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(ids)
    ours = Ends.load(tiny.folder).causal_lm(LocalGrid(tiny)).generate(ids, attention_mask=mask, **settings)
    theirs = tiny.model.generate(ids, attention_mask=mask, **settings)
    assert torch.equal(ours, theirs)


def test_padded_batch_generates_like_local(tiny: Tiny) -> None:
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(3, 150, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    mask[2, :1] = 0
    ids[mask == 0] = 0
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    ours = Ends.load(tiny.folder).causal_lm(LocalGrid(tiny)).generate(ids, attention_mask=mask, **settings)
    theirs = tiny.model.generate(ids, attention_mask=mask, **settings)
    assert torch.equal(ours, theirs)


def test_causal_lm_shares_the_ends_weights(tiny: Tiny) -> None:
    ends = Ends.load(tiny.folder)
    model = ends.causal_lm(LocalGrid(tiny))
    mine = {tensor.data_ptr() for tensor in ends.model.parameters()}
    own = [name for name, tensor in model.named_parameters() if tensor.data_ptr() not in mine]
    assert all(".inner." in name for name in own) or not own
    assert model.config.num_hidden_layers == 1


def test_views_run_part_of_a_span(tiny: Tiny) -> None:
    span = load_span(tiny.folder, None, 1, LAYERS)
    hidden, positions = torch.randn(1, 6, span.hidden_size), torch.arange(6)[None]
    whole = span.forward(hidden, positions, SpanCache(1))
    middle = span.view(1, 3).forward(hidden, positions, SpanCache(1))
    last = span.view(3, LAYERS).forward(middle, positions, SpanCache(3))
    torch.testing.assert_close(last, whole, atol=1e-6, rtol=1e-6)
    assert span.view(1, LAYERS) is span
    assert span.view(1, 3) is span.view(1, 3)
    with pytest.raises(ModelError, match="not within"):
        span.view(0, 2)
