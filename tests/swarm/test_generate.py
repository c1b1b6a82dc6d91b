"""Text through real processes equals the local model's; the command; a script that forgets to close."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from gridllm.models.files import find_model
from gridllm_client.grid import Grid
from gridllm_client.model import GridModel
from tests.command import Running, gridllm
from tests.swarm.grid import ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(420)

PROMPT = "Once upon a time"
TOKENS = 120


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    torch.set_num_threads(1)
    with process_grid(tmp_path_factory.mktemp("grid"), "0:3", "3:6", "6:8") as grid:
        yield grid


@pytest.fixture(scope="module")
def client(grid: ProcessGrid) -> Iterator[Grid]:
    with Grid(grid.data_dir) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: Grid) -> GridModel:
    return client.model("demo")


@pytest.fixture(scope="module")
def local() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(find_model("demo"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def expected(local: torch.nn.Module, model: GridModel) -> str:
    batch = model.tokenizer([PROMPT], return_tensors="pt")
    out = local.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=TOKENS, do_sample=False
    )
    return model.tokenizer.decode(out[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def test_greedy_equals_local(model: GridModel, expected: str):
    made = model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0)
    assert made.text == expected
    assert [(start, end) for _, start, end in made.chain] == [(0, 3), (3, 6), (6, 8)]


def test_sampling_with_a_seed_equals_local(model: GridModel, local: torch.nn.Module):
    batch = model.tokenizer([PROMPT], return_tensors="pt")
    torch.manual_seed(5)
    out = local.generate(**batch, max_new_tokens=30, do_sample=True, temperature=0.9, top_p=0.95)
    text = model.tokenizer.decode(out[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert model.generate(PROMPT, max_new_tokens=30, temperature=0.9, top_p=0.95, seed=5) == text


@pytest.mark.parametrize("wishes", [{"num_beams": 3}, {"do_sample": True, "temperature": 0.8}, {}], ids=str)
def test_padded_batches_and_beams_equal_local(model: GridModel, local: torch.nn.Module, wishes: dict[str, object]):
    model.tokenizer.padding_side = "left"
    batch = model.tokenizer(
        ["The fox said", "Once upon a time there was a", "2 + 2 ="], return_tensors="pt", padding=True
    )
    batch.pop("token_type_ids", None)
    outs = []
    for one in (local, model.hf):
        torch.manual_seed(2)
        outs.append(one.generate(**batch, max_new_tokens=12, **({"do_sample": False} | wishes)))
    assert torch.equal(*outs)


def test_the_command(grid: ProcessGrid, expected: str):
    done = gridllm(grid.home, "generate", PROMPT, "--max-new-tokens", str(TOKENS), "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected + "\n"
    done = gridllm(grid.home, "generate", PROMPT, "--max-new-tokens", "5", "--json", "--show-chain", "--stop", "small")
    facts = json.loads(done.stdout)
    assert facts["prompt"] == PROMPT
    assert facts["chain"][0]["start"] == 0
    assert len(facts["tokens"]) <= 5


SCRIPT = """
import sys
from gridllm_client import Grid
grid = Grid(sys.argv[1])
print(grid.model("demo").generate("Once", max_new_tokens=5))
"""


def test_a_script_that_never_closes_its_grid_ends_clean(grid: ProcessGrid):
    with Running(grid.home, str(grid.data_dir), program=(sys.executable, "-c", SCRIPT)) as running:
        helpers: list[psutil.Process] = []
        while running.process.poll() is None:
            helpers = psutil.Process(running.pid).children(recursive=True) or helpers
            time.sleep(0.05)
        assert running.wait() == 0, "".join(running.output)
    assert helpers, "the libp2p daemon"
    _, alive = psutil.wait_procs(helpers, timeout=30)
    assert not alive
