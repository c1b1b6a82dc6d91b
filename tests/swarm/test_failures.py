"""Nodes are killed, frozen and stopped in mid-generation; the text is what it would have been."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from gridllm.errors import RouteError
from gridllm_client.grid import Grid
from gridllm_client.model import GridModel
from gridllm_client.terms import ChainEvent
from tests.command import COMMAND, home_environ
from tests.swarm.failures import SPANS, Interrupted, interrupt, kill, numbers, replenish, serving
from tests.swarm.grid import ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(240)

PROMPT = "Once upon a time"
GREEDY: dict[str, Any] = {"max_new_tokens": 110, "temperature": 0}
SAMPLED: dict[str, Any] = {"max_new_tokens": 110, "temperature": 0.7, "top_p": 0.95, "seed": 7}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    torch.set_num_threads(1)
    with process_grid(tmp_path_factory.mktemp("grid"), *SPANS, *SPANS, extra=["--cache-tokens", "8192"]) as running:
        yield running


@pytest.fixture(scope="module")
def model(grid: ProcessGrid) -> Iterator[GridModel]:
    with Grid(grid.data_dir) as client:
        yield client.model("demo")


@pytest.fixture(scope="module")
def heard(model: GridModel) -> tuple[GridModel, list[ChainEvent]]:
    """The model, and what happens to the chains of its ``.hf``."""
    events: list[ChainEvent] = []
    model._session = partial(model._session, on_event=events.append)  # type: ignore[method-assign]
    return model, events


@pytest.fixture(scope="module")
def undisturbed(model: GridModel) -> Callable[..., str]:
    """The text that nothing happened to, generated once for each set of wishes."""
    known: dict[str, str] = {}

    def text(**wishes: Any) -> str:
        key = json.dumps(wishes, sort_keys=True)
        if key not in known:
            known[key] = model.generate(PROMPT, **wishes)
        return known[key]

    return text


@pytest.fixture
def lose(
    model: GridModel, grid: ProcessGrid, undisturbed: Callable[..., str], record_property: Callable[..., None]
) -> Callable[..., Interrupted]:
    """Generate with harm on the way; the text is compared, the pause printed and recorded."""
    replenish(grid)

    def check(harm: dict[int, Any], **wishes: Any) -> Interrupted:
        wanted = undisturbed(**wishes)
        made = interrupt(model, grid, PROMPT, harm, **wishes)
        tell(made.pause_s, made.repairs, record_property)
        assert made.text == wanted
        return made

    return check


def tell(pause_s: float, repairs: list[ChainEvent], record: Callable[..., None]) -> None:
    record("pause_s", round(pause_s, 3))
    print(f"\npause {pause_s:.2f} s: {'; '.join(map(str, repairs)) or 'no repair'}")  # noqa: T201


@pytest.mark.parametrize(
    "hops",
    [(0,), pytest.param((1,), marks=pytest.mark.soak), (2,), (0, 1), pytest.param((0, 2), marks=pytest.mark.soak)],
    ids=str,
)
def test_killed(lose: Callable[..., Interrupted], grid: ProcessGrid, hops: tuple[int, ...]) -> None:
    made = lose({20: kill(grid, *hops)}, **GREEDY)
    assert sum(len(event.lost) for event in made.repairs) >= len(hops)


def test_one_after_the_other_while_sampling(lose: Callable[..., Interrupted], grid: ProcessGrid) -> None:
    made = lose({10: kill(grid, 1), 40: kill(grid, 2)}, **SAMPLED)
    assert len(made.repairs) >= 2


@pytest.mark.parametrize("daemon", [False, True], ids=["Python", "Python and p2pd"])
def test_frozen(lose: Callable[..., Interrupted], grid: ProcessGrid, daemon: bool) -> None:
    frozen: list[int] = []

    def freeze(chain: list[int]) -> None:
        frozen.append(chain[1])
        grid.freeze(chain[1], daemon=daemon)

    try:
        made = lose({20: freeze}, **GREEDY)
        repair = next(event for event in made.repairs if grid.nodes[frozen[0]].peer in event.lost)
        assert repair.pause_s > 4, "the time until it is noticed counts, too"
    finally:
        for number in frozen:
            grid.thaw(number)


def test_a_node_that_leaves_hands_its_sessions_over(lose: Callable[..., Interrupted], grid: ProcessGrid) -> None:
    leaving: list[int] = []

    def interrupt_key(chain: list[int]) -> None:
        leaving.append(chain[1])
        grid.nodes[chain[1]].running.process.send_signal(signal.SIGINT)

    made = lose({10: interrupt_key}, **GREEDY)
    (number,) = leaving
    left = grid.nodes[number].peer
    assert any(left in event.lost for event in made.repairs)
    assert grid.nodes[number].running.wait() == 0


@pytest.mark.parametrize("wishes", [{"num_beams": 3}, {}], ids=["beams", "batch"])
def test_rows_of_transformers_generate(
    heard: tuple[GridModel, list[ChainEvent]],
    grid: ProcessGrid,
    wishes: dict[str, int],
    record_property: Callable[..., None],
) -> None:
    """transformers' own generate(), a padded batch of prompts; a node dies between two tokens."""
    replenish(grid)
    model, events = heard
    model.tokenizer.padding_side = "left"
    prompts = ["The fox said", "Once upon a time there was a", "2 + 2 ="]
    batch = model.tokenizer(prompts, return_tensors="pt", padding=True)
    batch.pop("token_type_ids", None)
    made, clock = [], [0.0]
    for deadly in (False, True):
        clock.clear()
        events.clear()

        def at_a_token(_: torch.Tensor, scores: torch.Tensor, deadly: bool = deadly) -> torch.Tensor:
            clock.append(time.monotonic())
            if len(clock) == 8 and deadly:
                grid.kill(numbers(grid, events[-1].chain)[1])
            return scores

        wanted = {"max_new_tokens": 24, "do_sample": False, "logits_processor": [at_a_token]}
        made.append(model.hf.generate(**batch, **wanted, **wishes))
    repairs = [event for event in events if event.kind == "repaired"]
    tell(max(after - before for before, after in pairwise(clock)), repairs, record_property)
    assert torch.equal(*made)
    assert repairs


def test_many_texts_at_once(
    model: GridModel, grid: ProcessGrid, undisturbed: Callable[..., str], record_property: Callable[..., None]
) -> None:
    replenish(grid)
    prompts = [f"{PROMPT} {word}" for word in ("a", "the", "in", "Mira")]
    alone = model.generate(prompts, **GREEDY)
    events: list[ChainEvent] = []
    opened = threading.Event()
    made: list[str] = []

    def hear(event: ChainEvent) -> None:
        events.append(event)
        opened.set()

    working = threading.Thread(target=lambda: made.extend(model.generate(prompts, on_event=hear, **GREEDY)))
    working.start()
    assert opened.wait(90)
    time.sleep(0.3)
    grid.kill(numbers(grid, events[0].chain)[0])
    working.join(180)
    repairs = [event for event in events if event.kind == "repaired"]
    tell(max((event.pause_s for event in repairs), default=0.0), repairs, record_property)
    assert made == alone
    assert repairs


class Generating:
    """``gridllm generate`` in a process of its own, held still after its first letter until ``end``."""

    def __init__(self, grid: ProcessGrid) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "generate", PROMPT, "--temperature", "0", "--max-new-tokens", "110"],
            env=home_environ(grid.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.read(1)
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> tuple[int, str, str]:
        """Let it go on: exit code, stdout, stderr."""
        self.process.send_signal(signal.SIGCONT)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, (self.first + out).decode(), err.decode()


def test_the_command_says_how_long_the_pause_was(grid: ProcessGrid, undisturbed: Callable[..., str]) -> None:
    """One of the two first nodes is frozen, so that the other must be in the chain; then they change roles."""
    wanted = undisturbed(**GREEDY)
    replenish(grid)
    used, spare, *_ = serving(grid, SPANS[0])
    grid.freeze(spare)
    try:
        generating = Generating(grid)
    finally:
        grid.thaw(spare)
    grid.kill(used)
    code, out, err = generating.end()
    print(err)  # noqa: T201
    assert code == 0, err
    assert out == wanted + "\n"
    assert "replaced by" in err
    assert "pause " in err


def last_of(grid: ProcessGrid, span: str) -> int:
    """Ends all nodes of ``span`` but one; returns its number."""
    last, *others = serving(grid, span)
    for number in others:
        grid.kill(number)
    return last


def test_without_a_spare_the_command_names_the_blocks(grid: ProcessGrid) -> None:
    replenish(grid, copies=1)
    last = last_of(grid, SPANS[0])
    generating = Generating(grid)
    grid.kill(last)
    code, _, err = generating.end()
    assert code != 0
    assert "0:3" in err
    assert err.strip().splitlines()[-1].startswith("gridllm: ")
    assert "Traceback" not in err


def test_without_a_spare_the_error_names_the_blocks(model: GridModel, grid: ProcessGrid) -> None:
    replenish(grid, copies=1)
    last = last_of(grid, SPANS[1])
    lost_at = 0.0

    def harm(_: list[int]) -> None:
        nonlocal lost_at
        lost_at = time.monotonic()
        grid.kill(last)

    with pytest.raises(RouteError, match="3:6") as caught:
        interrupt(model, grid, PROMPT, {20: harm}, **GREEDY)
    took_s = time.monotonic() - lost_at
    print(f"\nerror after {took_s:.1f} s: {caught.value}")  # noqa: T201
    assert caught.value.uncovered == ((3, 6),)
    assert took_s < 60


def test_with_wait_it_resumes_when_a_node_appears(
    model: GridModel, grid: ProcessGrid, undisturbed: Callable[..., str], record_property: Callable[..., None]
) -> None:
    replenish(grid, copies=1)
    wanted = undisturbed(**GREEDY)
    last = last_of(grid, SPANS[1])
    coming = threading.Thread(target=grid.add, args=[SPANS[1]])

    def harm(_: list[int]) -> None:
        grid.kill(last)
        coming.start()

    try:
        made = interrupt(model, grid, PROMPT, {20: harm}, wait_s=90.0, **GREEDY)
    finally:
        coming.join()
    tell(made.pause_s, made.repairs, record_property)
    assert made.text == wanted
    assert made.repairs
