"""Scorers: a model here and on the grid give what one pass of plain transformers gives, however it is cut."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from gridllm.errors import ModelError, RouteError, UsageError
from gridllm.models.cached import CachedModel
from gridllm.models.local_scorer import LocalScorer
from gridllm.models.manifest import build_manifest, root
from gridllm.models.scoring import Scorer, Scores, batches
from gridllm.models.weights import Checkpoint
from gridllm_client.loaded import Loaded
from gridllm_client.model import GridModel
from gridllm_client.runtime import Runtime
from gridllm_client.scoring import ChainScorer
from gridllm_client.terms import Terms
from tests.unit.memory_grid import ROOT, MemoryGrid, memory_grid
from tests.unit.test_client_model import write_tokenizer
from tests.unit.tiny_models import LAYERS, VOCAB, Tiny, make_model

TOLERANCE = 1e-5


class Both(NamedTuple):
    """A model, as it is, from its folder and on the grid."""

    tiny: Tiny
    grid: MemoryGrid
    runtime: Runtime
    local: LocalScorer
    chain: ChainScorer


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "bloom"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    tiny = make_model(request.param, tmp_path_factory.mktemp("model"))
    write_tokenizer(tiny.folder)
    runtime, stack = Runtime(), AsyncExitStack()
    grid = runtime.run(stack.enter_async_context(memory_grid(tiny.folder, LAYERS, (0, 2, 3, 5))))
    terms = Terms(model=ROOT, blocks=LAYERS, hidden_size=grid.ends.hidden_size, dtype=torch.float32)
    model = GridModel(runtime, grid.pool, Loaded("tiny", terms, grid.routes(), grid.ends))
    yield Both(tiny, grid, runtime, LocalScorer.load(tiny.folder), ChainScorer(model, wait_s=0))
    runtime.close(stack.aclose(), 20)


def rows_of(lengths: Sequence[int], seed: int = 5) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(length)] for length in lengths]


def plain(tiny: Tiny, row: Sequence[int], start: int) -> Scores:
    """What transformers gives in one pass over one row."""
    with torch.no_grad():
        logits = tiny.model(torch.tensor([row])).logits[0]
    wanted = torch.tensor(row[start:])
    likely = torch.log_softmax(logits, dim=-1)[start - 1 : -1]
    return Scores(likely.gather(1, wanted[:, None])[:, 0], likely.argmax(1) == wanted)


def check(scorer: Scorer, tiny: Tiny, rows: list[list[int]], starts: list[int]) -> None:
    scored = scorer.logprobs(rows, starts)
    assert len(scored) == len(rows)
    for row, start, one in zip(rows, starts, scored, strict=True):
        expected = plain(tiny, row, start)
        assert len(one.logprobs) == len(one.greedy) == len(row) - start
        torch.testing.assert_close(one.logprobs, expected.logprobs, atol=TOLERANCE, rtol=0)
        assert torch.equal(one.greedy, expected.greedy)


def test_rows_of_all_lengths(both: Both):
    lengths = [2, 40, 7, 7, 3, 100, 19, 64, 2, 40]
    rows, starts = rows_of(lengths), [1, 30, 6, 1, 2, 55, 18, 1, 1, 39]
    check(both.local, both.tiny, rows, starts)
    check(both.chain, both.tiny, rows, starts)


def test_a_greedy_continuation_is_known_as_one(both: Both):
    row = rows_of([6])[0]
    for _ in range(5):
        with torch.no_grad():
            row.append(int(both.tiny.model(torch.tensor([row])).logits[0, -1].argmax()))
    for scorer in (both.local, both.chain):
        assert scorer.logprobs([row], [6])[0].greedy.tolist() == [True] * 5


def test_a_long_text_in_stretches(both: Both, monkeypatch: pytest.MonkeyPatch):
    """With logits of ten tokens at once, and sessions of 24."""
    monkeypatch.setattr("gridllm.models.scoring.LOGITS_BYTES", 4 * VOCAB * 10)
    monkeypatch.setattr("gridllm_client.scoring.SESSION_TOKENS", 24)
    rows, starts = rows_of([200, 21, 11, 9, 200, 30, 10]), [1, 11, 10, 4, 157, 12, 1]
    check(LocalScorer.load(both.tiny.folder), both.tiny, rows, starts)
    check(both.chain, both.tiny, rows, starts)


def test_what_cannot_be_scored_is_refused(both: Both):
    for scorer in (both.local, both.chain):
        for row, start in (([1, 2, 3], 0), ([1, 2, 3], 3), ([1], 1), ([1, VOCAB], 1), ([1, -1], 1)):
            with pytest.raises(UsageError):
                scorer.logprobs([row], [start])
        with pytest.raises(UsageError, match="exceeds"):
            scorer.logprobs([[1] * (scorer.max_length + 1)], [1])
        assert scorer.logprobs([], []) == []


def test_both_know_the_same_tokenizer_and_length(both: Both):
    assert both.local.max_length == both.chain.max_length > 100
    assert both.local.tokenizer("abc")["input_ids"] == both.chain.tokenizer("abc")["input_ids"]


def test_nodes_lost_on_the_way_are_replaced(both: Both):
    rows, starts = rows_of([120] * 12, seed=8), [1] * 12
    lost = next(node for node in both.grid.listed if (node.record.start, node.record.end) == (2, 3))

    async def kill() -> None:
        await both.grid.add(2, 3)
        both.grid.network.kill(lost.record.peer)  # and stays in the directory

    both.runtime.run(kill())
    check(both.chain, both.tiny, rows, starts)
    both.grid.listed.remove(lost)


def test_blocks_that_nobody_serves(both: Both):
    listed, both.grid.listed = both.grid.listed, both.grid.listed[:1]
    both.chain._model._source.now.routes.forget()
    try:
        with pytest.raises(RouteError):
            both.chain.logprobs(rows_of([10]), [1])
    finally:
        both.grid.listed = listed
        both.chain._model._source.now.routes.forget()


def test_a_folder_of_the_cache_loads_and_another_models_does_not(both: Both, tmp_path: Path):
    manifest = build_manifest(both.tiny.folder)
    cached = CachedModel(tmp_path, root(manifest), manifest)
    cached.prepare()
    checkpoint = Checkpoint.open(both.tiny.folder)
    for item in cached.lacking(None, None):
        slot = None if item.file else checkpoint.slot(item.name)
        raw = (both.tiny.folder / item.name if slot is None else slot.file).read_bytes()
        item.path.write_bytes(item.header + (raw if slot is None else raw[slot.offset : slot.offset + slot.size]))
    row = rows_of([30])
    same = LocalScorer.load(cached.folder, manifest).logprobs(row, [1])[0]
    assert torch.equal(same.logprobs, both.local.logprobs(row, [1])[0].logprobs)
    other = make_model("olmo2", tmp_path / "other")
    with pytest.raises(ModelError):
        LocalScorer.load(other.folder, manifest)


def test_a_model_of_no_numbers_is_told(tmp_path: Path):
    tiny = make_model("llama", tmp_path)
    with torch.no_grad():
        tiny.model.lm_head.weight[3] = float("inf")
    with pytest.raises(ModelError, match="log-probability"):
        LocalScorer(tmp_path, tiny.model).logprobs([[5, 3]], [1])


def test_batches_hold_each_row_once_and_stay_small():
    rng = random.Random(2)
    for _ in range(50):
        lengths = [rng.randrange(2, 90) for _ in range(rng.randrange(40))]
        made = list(batches(lengths, 120, rows=7))
        assert sorted(at for batch in made for at in batch) == list(range(len(lengths)))
        for batch in made:
            assert len(batch) <= 7
            assert len(batch) == 1 or len(batch) * max(lengths[at] for at in batch) <= 120
