"""The engine against the plain model: ragged passes, chunks, rollback, beams, parts of a span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from gridllm.engine.attention import RAGGED, register
from gridllm.engine.cache import SessionCache
from gridllm.engine.runner import Engine, Work
from gridllm.errors import Full
from gridllm.models.span import load_span
from gridllm.wire.messages import RowSlice

LAYERS = 4
HIDDEN = 48


def tiny(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "falcon":
        return FalconForCausalLM(
            FalconConfig(vocab_size=97, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4)
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=HIDDEN,
            intermediate_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )


def reference(model: PreTrainedModel, hidden: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Blocks [start, end) of the plain model over a whole row [T, H], no cache."""
    base = model.base_model
    layers = base.layers if hasattr(base, "layers") else base.h
    kept, norm = list(layers), base.norm if hasattr(base, "norm") else base.ln_f
    identity = torch.nn.Identity()
    try:
        setattr(base, "layers" if hasattr(base, "layers") else "h", torch.nn.ModuleList(kept[start:end]))
        setattr(base, "norm" if hasattr(base, "norm") else "ln_f", identity)
        base.config.num_hidden_layers = end - start
        with torch.inference_mode():
            return base(inputs_embeds=hidden[None], use_cache=False).last_hidden_state[0]
    finally:
        setattr(base, "layers" if hasattr(base, "layers") else "h", torch.nn.ModuleList(kept))
        setattr(base, "norm" if hasattr(base, "norm") else "ln_f", norm)
        base.config.num_hidden_layers = LAYERS


@pytest.fixture(params=["llama", "falcon"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Engine, PreTrainedModel]]:
    model = tiny(request.param).eval()
    model.save_pretrained(tmp_path)
    register()
    running = Engine(load_span(tmp_path, None, 0, LAYERS, attn=RAGGED), cache_tokens=4096)
    running.start()
    yield running, model
    await running.stop()


async def step(engine: Engine, session: SessionCache, slices: list[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
    answered: asyncio.Future[Work] = asyncio.get_running_loop().create_future()
    engine.reserve(session, slices)
    engine.submit(session, slices, hidden, answered.set_result)
    work = await answered
    if work.error is not None:
        raise work.error
    assert work.output is not None
    return work.output


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5, rtol=0)


async def test_many_sessions_in_one_pass_equal_the_plain_model(engine: tuple[Engine, PreTrainedModel]) -> None:
    running, model = engine
    rows = [torch.randn(n, HIDDEN) for n in (5, 17, 1, 30)]
    sessions = [running.open_session(1, 0, LAYERS) for _ in rows]
    outputs: list[list[torch.Tensor]] = [[] for _ in rows]
    for lo, hi in ((0, 1), (1, 5), (5, 6), (6, 30)):
        active = [i for i, row in enumerate(rows) if len(row) > lo]
        results = await asyncio.gather(
            *(step(running, sessions[i], [RowSlice(0, 0, lo, len(rows[i][lo:hi]), 1)], rows[i][lo:hi]) for i in active)
        )
        for i, result in zip(active, results, strict=True):
            outputs[i].append(result)
    for row, output in zip(rows, outputs, strict=True):
        assert close(torch.cat(output), reference(model, row, 0, LAYERS))
    assert running.metrics().mean_batch > 1


async def test_a_step_cuts_to_its_position(engine: tuple[Engine, PreTrainedModel]) -> None:
    running, model = engine
    row, other = torch.randn(12, HIDDEN), torch.randn(4, HIDDEN)
    session = running.open_session(1, 0, LAYERS)
    await step(running, session, [RowSlice(0, 0, 0, 12, 0)], row)
    output = await step(running, session, [RowSlice(0, 0, 7, 4, 4)], other)
    assert close(output, reference(model, torch.cat([row[:7], other]), 0, LAYERS)[7:])


async def test_rows_may_swap(engine: tuple[Engine, PreTrainedModel]) -> None:
    running, model = engine
    a, b, tail = torch.randn(6, HIDDEN), torch.randn(6, HIDDEN), torch.randn(2, HIDDEN)
    session = running.open_session(2, 0, LAYERS)
    await step(running, session, [RowSlice(0, 0, 0, 6, 0), RowSlice(1, 1, 0, 6, 0)], torch.cat([a, b]))
    output = await step(running, session, [RowSlice(0, 1, 6, 1, 1), RowSlice(1, 0, 6, 1, 1)], tail)
    assert close(output[:1], reference(model, torch.cat([b, tail[:1]]), 0, LAYERS)[6:])
    assert close(output[1:], reference(model, torch.cat([a, tail[1:]]), 0, LAYERS)[6:])


async def test_a_part_of_the_span_runs_alone(engine: tuple[Engine, PreTrainedModel]) -> None:
    running, model = engine
    row = torch.randn(9, HIDDEN)
    middle, whole = running.open_session(1, 1, 3), running.open_session(1, 0, LAYERS)
    part, full = await asyncio.gather(
        step(running, middle, [RowSlice(0, 0, 0, 9, 9)], row), step(running, whole, [RowSlice(0, 0, 0, 9, 9)], row)
    )
    assert close(part, reference(model, row, 1, 3))
    assert close(full, reference(model, row, 0, LAYERS))


async def test_a_full_cache_refuses_and_frees(engine: tuple[Engine, PreTrainedModel]) -> None:
    running, _ = engine
    session = running.open_session(1, 0, LAYERS)
    with pytest.raises(Full, match="room for"):
        await step(running, session, [RowSlice(0, 0, 0, 5000, 0)], torch.randn(5000, HIDDEN))
    await step(running, session, [RowSlice(0, 0, 0, 40, 0)], torch.randn(40, HIDDEN))
    assert running.budget.free < 4096
    running.close_session(session)
    assert running.budget.free == 4096
