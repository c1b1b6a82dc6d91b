"""One grid for all tests of this folder, under attack from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gridllm.models.files import find_model
from tests.swarm.garbage.scene import CACHE_TOKENS, PROMPT, TOKENS, Bystander, Scene
from tests.swarm.grid import process_grid

WATCH_S = 5.0  # between two waits for a whole text of the other client
# Hypothesis watches the state of ``random``, which the other client uses meanwhile, in a thread of this process.
OTHERS_DRAW = "ignore:Do not use the .random. module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(OTHERS_DRAW))


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory, expected: str) -> Iterator[Scene]:
    # After ``expected``: transformers loads one model at a time, and the other client loads in a thread.
    torch.set_num_threads(1)
    tokens = str(CACHE_TOKENS)
    with process_grid(tmp_path_factory.mktemp("grid"), "0:4", "4:8", extra=["--cache-tokens", tokens]) as running:
        bystander = Bystander(running.home / "data" / "gridllm")
        made = Scene(running, bystander)
        bystander.start()
        try:
            with made.stranger:
                made.run(made.introduce(made.stranger))
                yield made
                bystander.wait_for_text()
        finally:
            bystander.over.set()
            bystander.join(60)


@pytest.fixture(scope="package")
def expected() -> str:
    """What the other client must get, each time."""
    folder = find_model("demo")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    local = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = local.generate(ids, max_new_tokens=TOKENS, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.fixture(autouse=True)
def unharmed(scene: Scene, expected: str) -> Iterator[None]:
    """After each test the node is the process it was, and the other client has its texts, without a single repair."""
    yield
    scene.run(scene.lives())
    if time.monotonic() - scene.watched_at > WATCH_S:
        scene.bystander.wait_for_text()
        scene.watched_at = time.monotonic()
    assert scene.bystander.trouble is None
    assert set(scene.bystander.texts) <= {expected}
    assert scene.bystander.repairs == []
    assert all(node.running.process.poll() is None for node in scene.running.nodes)
