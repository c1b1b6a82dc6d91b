"""GridModel and ``.hf`` over real nodes in memory, against the same model on its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast, TextIteratorStreamer

from gridllm.errors import GridError, ModelError, UsageError
from gridllm_client import prompts
from gridllm_client.generation import Generation
from gridllm_client.loaded import Loaded
from gridllm_client.model import GridModel
from gridllm_client.routes import Routes
from gridllm_client.runtime import Runtime
from gridllm_client.terms import ChainEvent, Terms
from tests.unit.memory_grid import ROOT, MemoryGrid, memory_grid
from tests.unit.tiny_models import LAYERS, VOCAB, Tiny, make_model

LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?"


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single letters, padded on the left."""
    alphabet = ["<pad>", "<s>", "</s>", *dict.fromkeys(LETTERS)]
    alphabet += [chr(0x100 + i) for i in range(VOCAB - len(alphabet))]
    raw = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",  # noqa: S106  # tokens of text, not of access
        eos_token="</s>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        padding_side="left",
    )
    fast.save_pretrained(folder)


class Local:
    """The grid model, and the same model without a grid."""

    def __init__(self, tiny: Tiny, grid: MemoryGrid, runtime: Runtime) -> None:
        self.plain = tiny.model
        self.grid = grid
        self.runtime = runtime
        terms = Terms(model=ROOT, blocks=LAYERS, hidden_size=grid.ends.hidden_size, dtype=torch.float32)
        routes = Routes(grid, grid.pool, ROOT, "float32")
        self.model = GridModel(runtime, grid.pool, Loaded("tiny", terms, routes, grid.ends))
        self.tokenizer = self.model.tokenizer

    def text(self, prompt: str, seed: int | None = None, **wishes: Any) -> str:
        """What plain transformers makes of it."""
        batch = self.tokenizer([prompt], return_tensors="pt")
        if seed is not None:
            torch.manual_seed(seed)
        out = self.plain.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **wishes)
        return self.tokenizer.decode(out[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    tiny = make_model(request.param, tmp_path_factory.mktemp("model"))
    write_tokenizer(tiny.folder)
    runtime = Runtime()
    stack = AsyncExitStack()

    async def enter() -> MemoryGrid:
        grid = await stack.enter_async_context(memory_grid(tiny.folder, LAYERS, (0, 2, 5)))
        await grid.add(0, 3)
        await grid.add(3, 5)
        return grid

    async def leave() -> None:
        await stack.aclose()

    yield Local(tiny, runtime.run(enter()), runtime)
    runtime.close(leave(), 20)


def test_greedy(local: Local):
    expected = local.text("Once upon a time", max_new_tokens=20, do_sample=False)
    assert local.model.generate("Once upon a time", max_new_tokens=20) == expected
    assert "".join(local.model.stream("Once upon a time", max_new_tokens=20)) == expected


@pytest.mark.parametrize(
    "wishes",
    [
        {"temperature": 0.8},
        {"temperature": 1.3, "top_k": 7},
        {"top_p": 0.7, "temperature": 1.0},
        {"temperature": 0.5, "repetition_penalty": 1.4, "top_k": 0},
    ],
)
def test_sampling_with_a_seed(local: Local, wishes: dict[str, Any]):
    expected = local.text("The fox", seed=11, max_new_tokens=20, do_sample=True, **wishes)
    assert local.model.generate("The fox", seed=11, max_new_tokens=20, **wishes) == expected


def test_complete_tells_how_it_went(local: Local):
    made = local.model.complete("abc", max_new_tokens=5, temperature=0)
    assert isinstance(made, Generation)
    assert str(made) == made.text
    assert len(made.ids) == 5 or made.finish_reason == "eos"
    assert made.prompt_tokens == 3
    assert [made.chain[0][1], made.chain[-1][2]] == [0, LAYERS]
    facts = made.as_json()
    assert facts["finish_reason"] in ("length", "eos")
    assert facts["repairs"] == []


def test_a_prompt_longer_than_the_model_was_made_for_is_told_of(local: Local):
    events: list[ChainEvent] = []
    with suppress(GridError):  # where positions are learned, the model has none for it
        local.model.generate("a" * 257, max_new_tokens=1, on_event=events.append)
    assert ["257 tokens, but" in event.text for event in events if event.kind == "overlong"] == [True]
    events.clear()
    local.model.generate("a" * 200, max_new_tokens=1, on_event=events.append)
    assert [event.kind for event in events] == ["opened"]


def test_stop_strings(local: Local):
    whole = local.text("Hello", max_new_tokens=30, do_sample=False)
    stop = whole[7:10]
    made = local.model.complete("Hello", max_new_tokens=30, stop=stop)
    assert made.text == whole[: whole.index(stop)]
    assert made.finish_reason == "stop"


def test_a_list_of_prompts(local: Local):
    prompts = ["a", "What is it?", "Once upon"]
    expected = [local.text(prompt, max_new_tokens=8, do_sample=False) for prompt in prompts]
    assert local.model.generate(prompts, max_new_tokens=8) == expected


def test_a_large_head_runs_in_a_thread(local: Local, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gridllm_client.generation.INLINE_WEIGHTS", 0)
    prompts = ["a", "What is it?", "Once upon"]
    expected = [local.text(prompt, max_new_tokens=8, do_sample=False) for prompt in prompts]
    assert local.model.generate(prompts, max_new_tokens=8) == expected


def test_async_twins_on_another_loop(local: Local):
    async def use() -> tuple[str, str, str]:
        text = await local.model.agenerate("Once", max_new_tokens=6)
        made = await local.model.acomplete("Once", max_new_tokens=6)
        pieces = [piece async for piece in local.model.astream("Once", max_new_tokens=6)]
        return text, made.text, "".join(pieces)

    assert len(set(asyncio.run(use()))) == 1


def test_a_stream_left_early_frees_its_session(local: Local):
    pieces = local.model.stream("Once", max_new_tokens=200, temperature=1.0, seed=1)
    next(pieces)
    pieces.close()

    async def settle() -> int:
        for _ in range(3000):
            await asyncio.sleep(0.02)
            if not any(node.service.sessions for node in local.grid.listed):
                break
        return sum(node.service.sessions for node in local.grid.listed)

    assert local.runtime.run(settle()) == 0


def test_chat_without_a_template(local: Local):
    with pytest.raises(ModelError, match="no chat template"):
        local.model.chat([{"role": "user", "content": "Hi"}])


def test_chat_with_a_template(local: Local):
    local.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}!{% endfor %}"
    try:
        answer = local.model.chat([{"role": "user", "content": "Hi"}], max_new_tokens=6)
        assert answer == local.text("Hi!", max_new_tokens=6, do_sample=False)
        local.tokenizer.chat_template = "{{ raise_exception('no') }}"
        with pytest.raises(UsageError, match="does not take these messages"):
            local.model.chat([{"role": "user", "content": "Hi"}])
    finally:
        local.tokenizer.chat_template = None


def test_a_chat_template_without_end_holds_up_nobody_else(local: Local, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompts, "TEMPLATE_S", 0.3)
    over = threading.Event()
    monkeypatch.setattr(prompts, "_written", lambda *_: over.wait(100))
    asked = [{"role": "user", "content": "Hi"}], "Hi"
    futures = [local.runtime.start(local.model.acomplete(prompt, max_new_tokens=2)) for prompt in asked]
    assert str(futures[1].result(60))
    with pytest.raises(ModelError, match="takes longer than"):
        futures[0].result(60)
    assert not over.is_set()
    over.set()


def test_wishes_out_of_range(local: Local):
    for wishes in ({"temperature": -1.0}, {"top_p": 2.0}, {"max_new_tokens": 0}):
        with pytest.raises(UsageError):
            local.model.generate("a", **wishes)
    with pytest.raises(UsageError, match="no token"):
        local.model.generate("")


def test_blocking_calls_on_the_grids_own_loop_are_refused(local: Local):
    async def wrong() -> str:
        return local.model.generate("a")

    with pytest.raises(UsageError, match="async twin"):
        local.runtime.run(wrong())


def both(local: Local, prompts: list[str], seed: int = 3, **wishes: Any) -> tuple[Any, Any]:
    """The same call of generate() on the plain model and over the grid."""
    batch = local.tokenizer(prompts, return_tensors="pt", padding=True)
    outs = []
    for model in (local.plain, local.model.hf):
        torch.manual_seed(seed)
        outs.append(model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **wishes))
    return outs[0], outs[1]


@pytest.mark.parametrize(
    "wishes",
    [
        {"do_sample": False},
        {"do_sample": True, "temperature": 0.9, "top_p": 0.9},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": False, "length_penalty": 0.5},
        {"num_beams": 2, "do_sample": True},
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": False, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("prompts", [["Once upon a time"], ["a", "Once upon a time", "What is"]], ids=["one", "batch"])
def test_hf_generate(local: Local, prompts: list[str], wishes: dict[str, Any]):
    expected, got = both(local, prompts, max_new_tokens=12, **wishes)
    assert torch.equal(expected, got)


def test_hf_prompt_lookup_rolls_back(local: Local):
    expected, got = both(local, ["Once upon a time"], max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3)
    assert torch.equal(expected, got)


def test_hf_streamer_and_processors(local: Local):
    class No(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores.index_fill(1, torch.arange(20, 60), -1e9)

    def streamed(model: Any) -> str:
        streamer = TextIteratorStreamer(local.tokenizer, skip_prompt=True)
        batch = local.tokenizer(["Once"], return_tensors="pt")
        model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=10,
            do_sample=False,
            streamer=streamer,
            logits_processor=LogitsProcessorList([No()]),
        )
        return "".join(streamer)

    assert streamed(local.model.hf) == streamed(local.plain)


def test_hf_plain_forward(local: Local):
    batch = local.tokenizer(["Once upon", "a fox was"], return_tensors="pt")
    with torch.no_grad():
        expected = local.plain(**batch).logits
        got = local.model.hf(**batch).logits
        uncached = local.model.hf(**batch, use_cache=False).logits
        returned = local.model.hf(input_ids=batch["input_ids"][:, :4], use_cache=True).past_key_values
        rest = local.model.hf(input_ids=batch["input_ids"][:, 4:], past_key_values=returned).logits
    assert (expected - got).abs().max() < 1e-4
    assert (expected - uncached).abs().max() < 1e-4
    assert (expected[:, 4:] - rest).abs().max() < 1e-4


def test_hf_survives_a_lost_node_between_beams(local: Local):
    batch = local.tokenizer(["Once upon"], return_tensors="pt")
    wishes = {"max_new_tokens": 10, "num_beams": 3, "do_sample": False}
    expected = local.plain.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **wishes)

    class Killer(LogitsProcessor):
        steps = 0

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            if self.steps == 4:
                local.runtime.run(self.kill())
            return scores

        async def kill(self) -> None:
            node = next(n for n in local.grid.listed if n.record.start == 0 and n.service.sessions)
            await local.grid.add(node.record.start, node.record.end)
            local.grid.network.kill(node.record.peer)
            local.grid.listed.remove(node)

    got = local.model.hf.generate(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_processor=LogitsProcessorList([Killer()]),
        **wishes,
    )
    assert torch.equal(expected, got)


def test_generation_reports_a_lost_node(local: Local):
    expected = local.text("Once upon", max_new_tokens=20, do_sample=False)
    events: list[ChainEvent] = []
    made, pieces = Generation(), []

    async def kill() -> None:
        node = next(n for n in local.grid.listed if n.service.sessions)
        await local.grid.add(node.record.start, node.record.end)
        local.grid.network.kill(node.record.peer)
        local.grid.listed.remove(node)

    for piece in local.model.stream_into(made, "Once upon", max_new_tokens=20, on_event=events.append):
        pieces.append(piece)
        if len(pieces) == 1:
            local.runtime.run(kill())
    assert "".join(pieces) == expected == made.text
    assert made.events == events
