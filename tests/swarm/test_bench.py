"""``gridllm bench`` as people run it: a table or JSON, and an exit code that says whether any role is reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import gridllm
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(600)

ONE_THREAD = ("--threads", "1", "--memory", "200MiB")
SPEEDS = ("decode_blocks_per_s", "batch_blocks_per_s", "prefill_blocks_per_s")
APART = 3.0  # times, at most: other tests run on the machine; the soak tests ask for 25 %
TRIES = 4  # for both to be measured while the machine does as much else


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Its JSON, and what it said meanwhile."""
    return benched(tmp_path_factory.mktemp("home"))


def benched(home: Path) -> tuple[dict[str, Any], str]:
    done = gridllm(home, "bench", "--json", *ONE_THREAD, timeout_s=150)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_without_a_grid_the_demo_model_is_measured(bench: tuple[dict[str, Any], str]) -> None:
    value, said = bench
    assert value["grid"] is None
    assert (value["model"], value["dtype"], value["threads"]) == ("demo", "float32", 1)
    assert value["figures"]["decode_blocks_per_s"] > 0
    assert value["figures"]["memory_bytes"] > 2**20
    assert value["roles"] == {"serve": "met", "relay": "unknown", "seed": "met"}
    for sentence in ("Filling memory", "Computing one session's tokens", "Computing a prompt"):
        assert sentence in said


def test_a_certificate_says_what_bench_says(bench: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    """An authority as people run it: at the full pace."""
    here = bench[0]["figures"]
    with process_grid(tmp_path, admission=(), pace="full") as grid:
        for number in range(TRIES):
            there = certified(grid, tmp_path / f"new{number}")
            assert there["memory_bytes"] == here["memory_bytes"]
            if all(1 / APART < there[name] / here[name] < APART for name in SPEEDS):
                return
            here = benched(tmp_path / "bench")[0]["figures"]
    pytest.fail(f"{TRIES} times far apart, at last {there}")


def certified(grid: ProcessGrid, home: Path) -> dict[str, float]:
    """The figures in a new machine's certificate."""
    args = ("--host-maddrs", LOOPBACK, *ONE_THREAD, "--json")
    joined = gridllm(home, "join", grid.address, *args, timeout_s=150)
    assert joined.returncode == 0, joined.stderr
    figures: dict[str, float] = json.loads(joined.stdout)["admission_outcome"]["certificate"]["figures"]
    return figures


def test_a_machine_with_too_little_memory_hears_what_would_mend_it(tmp_path: Path) -> None:
    done = gridllm(tmp_path, "bench", "--threads", "1", "--memory", "2MiB")
    assert done.returncode == 0, done.stderr  # it can hand out weights
    row = next(line for line in done.stdout.splitlines() if "memory held" in line)
    assert row.split()[-1] == "no"
    assert "Offer more memory: --memory" in done.stdout
    assert "Take a smaller role" in done.stdout


def test_what_cannot_be_measured_is_a_sentence(tmp_path: Path) -> None:
    for flags, part in (
        (("--dtype", "int3"), "int3"),
        (("--device", "abacus"), "abacus"),
        (("--memory", "much"), "much"),
        (("--grid", "nowhere"), "nowhere"),
        (("--path", str(tmp_path)), "config.json"),
    ):
        done = gridllm(tmp_path, "bench", *flags)
        assert done.returncode in (1, 2)
        assert part in done.stderr
        assert "Traceback" not in done.stderr
