"""A grader on a real grid: by way of three nodes, killed in the midst, and somebody who is none."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from gridllm.models.files import DEMO, find_model
from tests.command import Running
from tests.swarm.leaderboard_grid import DECIDED_S, Contest, leaderboard_grid

pytestmark = pytest.mark.timeout(600)

SPANS = ("0:3", "3:6", "6:8")
RULES = ("--task", "sums:30", "--task", "stories:12", "--fee", "0")
KILLS = 5


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with leaderboard_grid(tmp_path_factory.mktemp("grid"), *SPANS, rules=RULES) as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that was never trained, with the demo model's tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "untrained"
    config = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in find_model(DEMO).glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def test_three_nodes_say_the_same_as_this_machine(contest: Contest) -> None:
    here = contest.json(contest.grader, "practice", "demo", "--items", "6", "--via", "local")
    there = contest.json(contest.grader, "practice", "demo", "--items", "6", "--via", "grid")
    assert [one["task"] for one in here["tasks"]] == ["sums", "stories"]
    for one, other in zip(here["tasks"], there["tasks"], strict=True):
        assert (one["items"], one["count"]) == (other["items"], other["count"])
        assert one["value"] == pytest.approx(other["value"], abs=1e-4)
        for mine, theirs in zip(one["items_in_order"], other["items_in_order"], strict=True):
            assert mine["item"] == theirs["item"]
            assert mine["points"] == pytest.approx(theirs["points"], abs=1e-5)
            assert mine["logliks"] == pytest.approx(theirs["logliks"], abs=1e-2, rel=1e-5)


@pytest.mark.soak
def test_a_grader_that_is_killed_goes_on_and_signs_once(contest: Contest, model: Path) -> None:
    author = contest.member("author", "2")
    submission = contest.submit(author, model, "untrained")
    for attempt in range(KILLS):
        running = Running(contest.grader, "leaderboard", "grade", "--watch")
        time.sleep(random.Random(attempt).uniform(1.0, 8.0))
        running.stop(signal.SIGKILL)
    deadline = time.monotonic() + DECIDED_S
    while not (rows := contest.json(contest.grader, "rank", "--all")):
        contest.json(contest.grader, "grade", timeout_s=DECIDED_S)
        assert time.monotonic() < deadline
    assert [row["submission"] for row in rows] == [submission]
    signed = [*(contest.grader / "data" / "gridllm" / "grading").rglob("grade.json")]
    assert len(signed) == 1
    assert len(contest.json(contest.grader, "show", submission)["grades"]) == 1
    assert contest.json(contest.grader, "grade") == []


def test_who_is_no_grader_is_told_so(contest: Contest) -> None:
    assert "is no grader by the leaderboard's rules" in contest.refused(contest.member("stranger"), "grade")
