"""What the ledger is for: who gives nothing is told what to do, gives, and is let in; to the micro-credit. And a model
that was listed since founding is served, used and paid for like the charter's."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.economy import Prices
from gridllm.charter.pin import Pins
from gridllm.ledger.prices import Count, price
from gridllm.models.files import find_model
from gridllm.models.manifest import verify_manifest
from gridllm.models.sizes import block_parameters
from tests.command import Running, gridllm
from tests.swarm.grid import ProcessGrid, process_grid
from tests.swarm.listed_model import Listing

TIER = 50_000  # micro-credits that the library model asks for
TOKENS = 96  # enough to pay for a window of the library afterwards
COMMAND_S = 240.0  # a command on a machine that has much else to do


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The demo model under another root."""
    folder = tmp_path / "library"
    shutil.copytree(find_model("demo"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


def generate(home: Path, model: str, tokens: int, *extra: str) -> tuple[int, dict[str, Any], str]:
    done = gridllm(home, "generate", "Once upon a time", "--model", model, "--json", "--temperature", "0",
                   "--max-new-tokens", str(tokens), *extra, timeout_s=COMMAND_S)  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def credit(home: Path) -> dict[str, Any]:
    done = gridllm(home, "credit", "--json")
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def joined(grid: ProcessGrid, home: Path) -> str:
    """A new participant; its peer id."""
    done = gridllm(home, "join", "--no-admission", grid.address, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["peer"])


@pytest.mark.timeout(420)
def test_a_volunteer_earns_its_way_in(tmp_path: Path, library: Path) -> None:
    founding = ("--open", "--model", str(library), "--tier", f"library={TIER / 1e6}", "--newcomers", "nothing")
    volunteer, rich = tmp_path / "newcomer", tmp_path / "rich"
    with process_grid(tmp_path, admission=founding) as grid:
        grid.add("0:8", extra=("--model", "library", "--path", str(library)))
        joined(grid, volunteer)
        grid.maintain("grant", joined(grid, rich), "5", "--why", "founder's gift")

        code, _, told = generate(volunteer, "library", 8, "--path", str(library))
        assert code == 1
        assert "library is for accounts that gave 0.05 credits more than they took" in told
        assert "gridllm serve" in told
        assert credit(volunteer)["balance"] == 0

        with Running(volunteer, *grid.serve_args("--blocks", "0:8")) as serving:
            serving.wait_for("serving blocks ")
            code, made, told = generate(rich, "demo", TOKENS)
            assert code == 0, told
            spent = made["spent"]
            prompt = made["prompt_tokens"]
            pins = Pins(rich / "data" / "gridllm")
            entry = pins.current().charter.model("demo")
            raw = pins.manifest(entry.model_root)
            assert raw is not None
            parameters = sum(block_parameters(verify_manifest(raw, entry.model_root)))
            # One call for the prompt, and one for each token but the last, with which nobody computed; a call's first
            # token counts as decoded.
            own_count = Count(prefill=prompt - 1, decode=len(made["tokens"]))
            assert spent == price(Prices(), parameters, own_count) > TIER

            deadline = time.monotonic() + 120
            while credit(volunteer)["earned"] != spent:
                assert time.monotonic() < deadline, (credit(volunteer), spent)
                time.sleep(1)
            assert credit(rich)["spent"] == spent

            code, made, told = generate(volunteer, "library", 8, "--path", str(library))
            assert code == 0, told
            assert made["spent"] > 0
        verified = gridllm(rich, "ledger", "verify", "--json")
        assert verified.returncode == 0, verified.stderr


@pytest.mark.timeout(900)  # four minutes beside a load of twenty, most of it commands that start
@pytest.mark.soak
@pytest.mark.parametrize("measured", [False, True], ids=["open", "measured"])
async def test_a_listed_model_is_served_used_and_paid_for(tmp_path: Path, library: Path, measured: bool) -> None:
    """Nobody has its files but the leaderboard; where machines are measured, it is for this model."""
    rich, founding = tmp_path / "rich", ("--ledger", "--newcomers", "nothing")
    with process_grid(tmp_path, admission=founding if measured else ("--open", *founding)) as grid:
        listed = Listing(grid, library, "better")
        async with listed.handed_out():
            await asyncio.to_thread(_listed, grid, listed, rich, asyncio.get_running_loop())
        verified = gridllm(
            rich, "ledger", "verify", "--json", timeout_s=COMMAND_S
        )  # the leaderboard is gone: keepers have the manifest
        assert verified.returncode == 0, verified.stderr
        assert json.loads(verified.stdout)["sound"]


def _listed(grid: ProcessGrid, listed: Listing, rich: Path, loop: asyncio.AbstractEventLoop) -> None:
    def post(raw: bytes) -> None:
        asyncio.run_coroutine_threadsafe(listed.post(raw), loop).result(COMMAND_S)

    grid.maintain("grant", joined(grid, rich), "5", "--why", "founder's gift")
    code, _, told = generate(rich, "better", 8)
    assert code == 1
    assert "serves no model 'better'" in told
    post(listed.notice())
    flags = ("--model", "better", "--memory", "200MiB")
    (number,) = grid.add("auto", extra=flags, timeout_s=COMMAND_S)  # it is measured first
    assert grid.nodes[number].span == (0, listed.entry.blocks)
    status = json.loads(gridllm(rich, "status", "--model", "better", "--json").stdout)
    assert [len(one["nodes"]) for one in status["models"]] == [1]
    code, made, told = generate(rich, "better", 8)
    assert code == 0, told
    assert made["spent"] > 0

    post(listed.notice(withdrawn=True, contribution=TIER))
    deadline = time.monotonic() + COMMAND_S
    while code == 0:  # the node hears of it within some seconds
        assert time.monotonic() < deadline
        code, _, told = generate(rich, "better", 1)
    assert "the grid serves it no more" in told or "serves no model 'better'" in told
    while credit(rich)["spent"] < made["spent"]:
        assert time.monotonic() < deadline + COMMAND_S
        time.sleep(1)
