"""Text through real processes: what it would have been, whoever is killed or frozen on the way."""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from gridllm.errors import RouteError
from gridllm.models.files import find_model
from gridllm_client.generation import Generation
from gridllm_client.grid import Grid
from gridllm_client.model import GridModel
from gridllm_client.terms import ChainEvent
from tests.command import Running, gridllm
from tests.swarm.real_grid import RealGrid, real_grid

pytestmark = pytest.mark.timeout(420)

SPANS = ("0:3", "3:6", "6:8")
PROMPT = "Once upon a time"
TOKENS = 120


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrid]:
    torch.set_num_threads(1)
    with real_grid(tmp_path_factory.mktemp("grid")) as grid:
        grid.add(*SPANS)
        yield grid


@pytest.fixture(scope="module")
def client(grid: RealGrid) -> Iterator[Grid]:
    with grid.client() as client:
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


def spares(grid: RealGrid) -> None:
    """Two nodes for every span."""
    have = [volunteer.blocks for volunteer in grid.volunteers]
    grid.add(*(span for span in SPANS for _ in range(2 - have.count(span))))


def interrupted(
    model: GridModel, harm: dict[int, list[int]], grid: RealGrid, number: signal.Signals
) -> tuple[Generation, list[ChainEvent]]:
    """Generate; after so many pieces, these hops of the chain are lost."""
    made, events = Generation(), []
    pieces = model.stream_into(made, PROMPT, max_new_tokens=TOKENS, temperature=0, on_event=events.append)
    for count, _ in enumerate(pieces, 1):
        for index in harm.get(count, ()):
            grid.lose(grid.of(made.chain[index][0]), number)
    return made, [event for event in events if event.kind == "repaired"]


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


def test_eight_clients_at_once(model: GridModel):
    prompts = [f"{PROMPT} {word}" for word in ("a", "the", "in", "Mira", "Jasper", "one", "there", "on")]
    alone = [model.generate(prompt, max_new_tokens=20, temperature=0) for prompt in prompts]
    assert model.generate(prompts, max_new_tokens=20, temperature=0) == alone


def test_the_command(grid: RealGrid, expected: str):
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


def test_a_script_that_never_closes_its_grid_ends_clean(grid: RealGrid):
    with Running(grid.home, str(grid.data_dir), program=(sys.executable, "-c", SCRIPT)) as running:
        helpers: list[psutil.Process] = []
        while running.process.poll() is None:
            helpers = psutil.Process(running.pid).children(recursive=True) or helpers
            time.sleep(0.05)
        assert running.process.wait(30) == 0, "".join(running.output)
    assert helpers, "the libp2p daemon"
    _, alive = psutil.wait_procs(helpers, timeout=5)
    assert not alive


@pytest.mark.parametrize("victims", [[0], [1], [2], [0, 2], [0, 1, 2]], ids=str)
def test_killed_nodes(model: GridModel, grid: RealGrid, expected: str, victims: list[int]):
    spares(grid)
    made, repairs = interrupted(model, {15: victims}, grid, signal.SIGKILL)
    assert made.text == expected
    assert repairs
    assert sum(event.pause_s for event in repairs) < 2


def test_a_frozen_node(model: GridModel, grid: RealGrid, expected: str):
    spares(grid)
    started = time.monotonic()
    made, repairs = interrupted(model, {15: [1]}, grid, signal.SIGSTOP)
    assert made.text == expected
    assert len(repairs) == 1
    assert time.monotonic() - started < 15


def test_no_spare(model: GridModel, grid: RealGrid):
    """Goes last of those that need volunteers: it leaves one span uncovered, then served again."""
    spares(grid)
    for volunteer in [v for v in grid.volunteers if v.blocks == "3:6"][1:]:
        grid.lose(volunteer)
    started = time.monotonic()
    with pytest.raises(RouteError, match="3:6"):
        interrupted(model, {10: [1]}, grid, signal.SIGKILL)
    assert time.monotonic() - started < 20


def test_waiting_for_a_node(model: GridModel, grid: RealGrid, expected: str):
    coming = threading.Timer(1.0, grid.add, ["3:6"])
    coming.start()
    events: list[ChainEvent] = []
    made = model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0, wait_s=120, on_event=events.append)
    coming.join()
    assert made.text == expected
    assert [event.kind for event in events] == ["waiting", "opened"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20))
def test_kills_at_random_moments(model: GridModel, grid: RealGrid, expected: str, seed: int):
    spares(grid)
    rng = random.Random(seed)
    made, repairs = interrupted(model, {rng.randint(1, 80): [rng.randrange(3)]}, grid, signal.SIGKILL)
    assert made.text == expected
    assert repairs[0].pause_s < 2
