"""A node whose admission is taken away: it leaves all chains within a minute, and does not come back in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from gridllm_client import Grid
from tests.command import gridllm
from tests.swarm.grid import ProcessGrid, process_grid

# With certificates that the test signs, the same is in the default tests: tests/swarm/test_uncertified.py.
pytestmark = [pytest.mark.timeout(420), pytest.mark.soak]

WITHIN_S = 60.0  # what is promised
PROMPT = "Once upon a time"
TOKENS = 60


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    with process_grid(tmp_path_factory.mktemp("grid"), "0:8", "0:8", admission=()) as running:
        yield running


def revoke(grid: ProcessGrid, peer: str, why: str, for_time: str) -> None:
    done = gridllm(grid.maintainer, "bootstrap", "revoke", peer, "--why", why, "--for", for_time, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["told"] >= 1


def listed(grid: ProcessGrid) -> set[str]:
    done = gridllm(grid.home, "status", "--json")
    assert done.returncode == 0, done.stderr
    return {node.peer for node in grid.nodes if node.peer in done.stdout}


def test_a_revoked_node_leaves_chains_and_stays_out(grid: ProcessGrid) -> None:
    with Grid(grid.data_dir) as client:
        model = client.model("demo")
        first = model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0)
        ((revoked, _, _),) = first.chain
        (other,) = {node.peer for node in grid.nodes} - {revoked}
        (number,) = (at for at, node in enumerate(grid.nodes) if node.peer == revoked)
        began = time.monotonic()
        revoke(grid, revoked, "made-up tokens", "1h")
        while revoked in {peer for peer, _, _ in model.complete(PROMPT, max_new_tokens=TOKENS).chain}:
            assert time.monotonic() < began + WITHIN_S
            time.sleep(0.2)
        for _ in range(20):
            made = model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0)
            assert [peer for peer, _, _ in made.chain] == [other]
            assert made.ids == first.ids
    assert listed(grid) == {other}
    grid.nodes[number].running.process.send_signal(2)
    grid.nodes[number].running.process.wait(60)
    key = grid.home.parent / f"node{number}.key"
    again = gridllm(grid.home, *grid.serve_args("--identity", str(key), "--blocks", "0:8"), timeout_s=60)
    assert again.returncode == 1
    assert "made-up tokens" in again.stderr + again.stdout
    assert listed(grid) == {other}
