"""Eight client processes at once on one chain: each gets its own text, and the nodes take their steps together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.files import find_model
from gridllm.node.service.switchboard import METRICS_CALL
from gridllm.swarm.libp2p import open_swarm
from tests.command import Running
from tests.swarm import client_process
from tests.swarm.grid import BUSY_S, ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(240)

PROMPTS = (  # the model says more than TOKENS tokens to each
    "Once upon a time",
    "There was",
    "There was a fox",
    "Once upon a time there was a",
    "Jasper",
    "Mira",
    "It was",
    "The wolf",
)
TOKENS = 96


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    with process_grid(tmp_path_factory.mktemp("grid"), "0:3", "3:6", "6:8", extra=["--cache-tokens", "8192"]) as grid:
        yield grid


@pytest.fixture
def clients(grid: ProcessGrid, go: Path) -> Iterator[list[Running]]:
    """Processes that have joined and loaded the model's ends; they generate once there is the file ``go``."""
    with ExitStack() as stack:
        said = [(prompt, str(TOKENS), str(go)) for prompt in PROMPTS]
        running = [stack.enter_context(Running(grid.home, *words, program=client_process.PROGRAM)) for words in said]
        for one in running:
            one.wait_for(client_process.READY, 120)
        yield running


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"


def expected(prompt: str, folder: Path) -> list[int]:
    """What transformers makes of the prompt on its own."""
    local = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = local.generate(ids, max_new_tokens=TOKENS, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


def counters(grid: ProcessGrid) -> list[dict[str, float]]:
    """Each node's engine metrics, read as anyone can: by call."""

    async def read() -> list[dict[str, float]]:
        swarm = await open_swarm(Identity.ephemeral(), initial_peers=[grid.address], client_only=True)
        try:
            answers = [await swarm.call(PeerId(node.peer), METRICS_CALL, b"", timeout_s=BUSY_S) for node in grid.nodes]
        finally:
            await swarm.close()
        return [msgspec.msgpack.decode(answer) for answer in answers]

    return asyncio.run(read())


def test_eight_processes_get_their_own_texts_in_shared_passes(
    grid: ProcessGrid, clients: list[Running], go: Path
) -> None:
    folder = find_model("demo")
    texts = [expected(prompt, folder) for prompt in PROMPTS]
    before = counters(grid)
    go.touch()
    lines = [client.wait_for(client_process.ANSWER, 120) for client in clients]
    answers = [json.loads(line.removeprefix(client_process.ANSWER)) for line in lines]
    after = counters(grid)
    for prompt, answer, text in zip(PROMPTS, answers, texts, strict=True):
        assert answer["tokens"] == text, prompt
        assert answer["nodes"] == len(grid.nodes)
    batches = [
        (new["steps"] - old["steps"]) / (new["passes"] - old["passes"]) for new, old in zip(after, before, strict=True)
    ]
    tokens = sum(len(text) for text in texts)
    seconds = max(answer["seconds"] for answer in answers)
    print(f"mean batch {[round(b, 2) for b in batches]}, {tokens / seconds:.0f} tokens/s together")  # noqa: T201
    assert sum(batches) / len(batches) > 1.5, batches  # 3 and more on an idle machine; 1.0 is one by one
