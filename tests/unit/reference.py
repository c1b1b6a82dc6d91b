"""What a session's hidden states should be: the same steps on the plain model, and steps to take."""

from __future__ import annotations

import random

import torch

from gridllm.wire.messages import RowSlice
from gridllm_client.session import Session
from tests.unit.tiny_models import Tiny

SPANS = ((0, 2), (2, 4), (4, 5))  # of the tiny models' blocks


class Reference:
    """The same steps on the plain model: every row is computed whole, without a cache."""

    def __init__(self, tiny: Tiny, rows: int) -> None:
        self.model = tiny.model
        self.rows = [torch.empty(0, tiny.model.config.hidden_size)] * rows

    def forward(self, slices: list[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
        old, offset, kept = list(self.rows), 0, []
        for s in slices:
            self.rows[s.row] = torch.cat([old[s.source][: s.position], hidden[offset : offset + s.tokens]])
            offset += s.tokens
            kept.append(self.blocks(self.rows[s.row])[-s.keep :])
        return torch.cat(kept)

    def blocks(self, row: torch.Tensor) -> torch.Tensor:
        caught: list[torch.Tensor] = []
        with torch.inference_mode():
            hook = self.model.model.norm.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
            self.model.model(inputs_embeds=row[None], use_cache=False)
            hook.remove()
        return caught[0][0]


def plain_step(rows: list[int], lengths: list[int], tokens: int = 1) -> list[RowSlice]:
    return [RowSlice(row, row, lengths[row], tokens, 1) for row in rows]


def some_step(rng: random.Random, lengths: list[int]) -> list[RowSlice]:
    """Appends, rollbacks, beams, chunks: whatever a session may do."""
    rows = rng.sample(range(len(lengths)), rng.randint(1, len(lengths)))
    slices = []
    for row in rows:
        source = rng.randrange(len(lengths)) if rng.random() < 0.3 else row
        cut = rng.randint(0, lengths[source]) if rng.random() < 0.3 else lengths[source]
        tokens = rng.choice([1, 1, 2, 150 if cut < 100 else 1])
        slices.append(RowSlice(row, source, cut, tokens, rng.randint(1, tokens)))
    return slices


async def step(session: Session, reference: Reference, slices: list[RowSlice], seed: int = 0) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(sum(s.tokens for s in slices), session.terms.hidden_size)
    out = await session.forward(slices, hidden)
    assert (out - reference.forward(slices, hidden)).abs().max() < 1e-4


def local_greedy(tiny: Tiny, prompt: torch.Tensor, tokens: int) -> list[int]:
    """What transformers makes of the prompt on its own."""
    out = tiny.model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()
