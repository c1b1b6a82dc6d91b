"""What the ledger is for: who gives nothing is told what to do, gives, and is let in; to the micro-credit."""

from __future__ import annotations

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

TIER = 50_000  # micro-credits that the library model asks for
TOKENS = 96  # enough to pay for a window of the library afterwards


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
                   "--max-new-tokens", str(tokens), *extra)  # fmt: skip
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


@pytest.mark.timeout(240)
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

            deadline = time.monotonic() + 60
            while credit(volunteer)["earned"] != spent:
                assert time.monotonic() < deadline, (credit(volunteer), spent)
                time.sleep(1)
            assert credit(rich)["spent"] == spent

            code, made, told = generate(volunteer, "library", 8, "--path", str(library))
            assert code == 0, told
            assert made["spent"] > 0
        verified = gridllm(rich, "ledger", "verify", "--json")
        assert verified.returncode == 0, verified.stderr
