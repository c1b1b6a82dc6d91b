"""README's lines about the leaderboard, run as they stand there: by a founder, and by an author who comes for the first
time, contributes, and has a model graded. What a reader fills in (address, folder) is filled in."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gridllm.models.files import find_model
from tests.command import Running, gridllm
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid

README = Path(__file__).parents[2] / "README.md"
HEADING = "## The leaderboard"
FOUNDING = ("--open", "--newcomers", "lowest", "--submit", "0.02")  # credits to have given: some thirty tokens' worth
LONGEST_PATH = 9  # lines
GRADED_S = 300.0  # on a machine that does much else


def blocks() -> list[list[list[str]]]:
    """The section's blocks of commands: of each line its words, without ``gridllm`` and comments."""
    section = README.read_text(encoding="utf-8").split(f"{HEADING}\n", 1)[1].split("\n## ", 1)[0]
    found = [block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]
    lines = [[shlex.split(line, comments=True) for line in block] for block in found]
    assert all(words[0] == "gridllm" for block in lines for words in block), lines
    return [[words[1:] for words in block] for block in lines]


def run(home: Path, words: Sequence[str]) -> str:
    """One command that succeeds; what it prints."""
    done = gridllm(home, *words, timeout_s=180)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def test_the_path_is_short() -> None:
    founder, author = blocks()
    assert len(author) <= LONGEST_PATH and len(founder) <= LONGEST_PATH
    said = [" ".join(words) for words in author]
    order = ["join /ip4/", "serve", "leaderboard submit ", "leaderboard rank"]
    assert [next(one for one in order if line.startswith(one)) for line in said
            if any(line.startswith(one) for one in order)] == order  # fmt: skip


@pytest.mark.timeout(600)
def test_readmes_lines_lead_from_joining_to_a_place(tmp_path: Path) -> None:
    founder, author = blocks()
    model, home = tmp_path / "my-model", tmp_path / "author"
    shutil.copytree(find_model("demo"), model)
    with process_grid(tmp_path, admission=FOUNDING) as grid:
        join, init, serving, grading = founder
        run(grid.maintainer, filled_in(grid, model, join))
        run(grid.maintainer, init)
        listening = ("--host-maddrs", LOOPBACK)
        with (
            Running(grid.maintainer, *serving, *listening) as leaderboard,
            Running(grid.maintainer, *grading) as grader,
        ):
            leaderboard.wait_for("Ready")
            for words in author:
                if words[:2] == ["leaderboard", "rank"]:
                    grader.wait_for(": score ", timeout_s=GRADED_S)  # asking all the time would slow the grader down
                follow(grid, home, filled_in(grid, model, words))
            assert grader.stop() == 0 and leaderboard.stop() == 0


def filled_in(grid: ProcessGrid, model: Path, words: Sequence[str]) -> list[str]:
    """With the address and the folder that README cannot know."""
    return [grid.address if one.startswith("/ip4/") else str(model) if one == "./my-model" else one for one in words]


def follow(grid: ProcessGrid, home: Path, words: Sequence[str]) -> None:
    """One line of the author's."""
    name = words[1] if words[0] == "leaderboard" else words[0]
    if name == "serve":
        contribute(grid, home, words)
        return
    if name == "rank":
        wait_for_a_place(home)
    said = run(home, words)
    if name == "submit":
        assert re.fullmatch(r"[0-9a-f]{64}", said.strip())
    if name in ("submissions", "rank"):
        assert "my-model" in said


def contribute(grid: ProcessGrid, home: Path, words: Sequence[str]) -> None:
    """Serve to somebody who pays."""
    run(grid.home, ("join", grid.address))
    peer = json.loads(run(grid.home, ("id", "--json")))["peer"]
    grid.maintain("grant", peer, "5", "--why", "to pay the others")
    with Running(home, *words, "--host-maddrs", LOOPBACK, "--threads", "1") as serving:
        serving.wait_for("serving blocks ")
        run(grid.home, ("generate", "Once upon a time", "--max-new-tokens", "96"))
        deadline = time.monotonic() + 150
        while json.loads(run(home, ("credit", "--json")))["contribution"] < 30_000:
            assert time.monotonic() < deadline, "nothing was earned"
            time.sleep(2)


def wait_for_a_place(home: Path) -> None:
    """The verdict follows the grade within moments."""
    deadline = time.monotonic() + 120
    while not json.loads(run(home, ("leaderboard", "rank", "--json"))):
        assert time.monotonic() < deadline, "nothing was judged"
        time.sleep(1)
