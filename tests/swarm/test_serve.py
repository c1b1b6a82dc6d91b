"""Serving as volunteers do it: by command, each in a process of its own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.command import gridllm
from tests.swarm.grid import SERVING, ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(300)

PARTED_S = 120.0  # where announcements take seconds, two nodes may choose alike at first: one of them moves


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    """Bootstrap alone; each test adds the nodes it needs and stops them."""
    with process_grid(tmp_path_factory.mktemp("grid")) as running:
        yield running


@pytest.fixture(scope="module")
def three(grid: ProcessGrid) -> list[int]:
    """Three nodes with room for three of the demo model's eight blocks each, started together."""
    return grid.add("auto", "auto", "auto", extra=["--memory", three_blocks(), "--cache-tokens", "1024"])


def three_blocks() -> str:
    """Memory for three blocks of the demo model, and not for four."""
    from gridllm.models.files import find_model
    from gridllm.models.manifest import build_manifest
    from gridllm.models.sizes import block_size
    from gridllm.planning.placement import bytes_needed

    size = block_size(build_manifest(find_model("demo")), "float32")
    return str(bytes_needed(3, size.weight_bytes, size.cache_bytes_per_token, cache_tokens=1024))


def last_span(grid: ProcessGrid, number: int) -> tuple[int, int]:
    """The blocks that the node said last that it serves."""
    node = grid.nodes[number]
    node.line = [line for line in node.running.output if line.startswith(SERVING)][-1].strip()
    return node.span


def status(grid: ProcessGrid) -> dict[str, Any]:
    done = gridllm(grid.home, "status", "--json")
    assert done.returncode == 0, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)["models"][0]
    return model


def refused(grid: ProcessGrid, *args: str) -> str:
    """``gridllm serve`` with these flags exits non-zero with one sentence; returns it."""
    done = gridllm(grid.home, *grid.serve_args(*args))
    assert done.returncode in (1, 2), done.stdout + done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("gridllm: ")]
    assert len(sentences) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return sentences[0]


def test_three_nodes_that_start_together_cover_all_blocks(grid: ProcessGrid, three: list[int]) -> None:
    deadline = time.monotonic() + PARTED_S
    while (shown := status(grid))["gaps"]:
        assert time.monotonic() < deadline, shown
        time.sleep(2)
    spans = [last_span(grid, number) for number in three]
    assert all(end - start == 3 for start, end in spans)
    assert sorted((node["start"], node["end"]) for node in shown["nodes"]) == sorted(spans)
    assert {node["state"] for node in shown["nodes"]} == {"serving"}
    assert all(node["blocks_per_s"] > 0 and node["rtt_ms"] > 0 and node["addresses"] for node in shown["nodes"])
    for number in three:
        print(f"serving after {grid.nodes[number].serving_after_s:.1f} s: {grid.nodes[number].line}")  # noqa: T201


def test_nodes_measure_the_way_to_those_that_follow(grid: ProcessGrid, three: list[int]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        nodes = {node["peer"]: node for node in status(grid)["nodes"]}
        first = next(node for node in nodes.values() if node["start"] == 0)
        after = {p for p, node in nodes.items() if node["start"] <= first["end"] < node["end"]}
        if after and set(first["next_hop_ms"]) == after:
            return
        time.sleep(1)
    pytest.fail(f"no round trips announced: {nodes}")


def test_the_table_names_every_node(grid: ProcessGrid, three: list[int]) -> None:
    done = gridllm(grid.home, "status")
    assert done.returncode == 0, done.stderr
    assert "8 blocks" in done.stdout
    assert "nobody serves" not in done.stdout
    assert all(title in done.stdout for title in ("blocks/s", "cache free", "version")), "a pipe gets it whole"
    for number in three:
        assert grid.nodes[number].peer[-8:] in done.stdout


def test_an_occupied_key_is_refused(grid: ProcessGrid, three: list[int]) -> None:
    node = grid.nodes[three[0]]
    key = node.running.process.args[node.running.process.args.index("--identity") + 1]  # type: ignore[index, union-attr]
    assert f"in use by process {node.running.pid}" in refused(grid, "--identity", str(key))


def test_a_node_uses_two_processes(grid: ProcessGrid, three: list[int]) -> None:
    assert all(len(grid.nodes[number].family) == 2 for number in three)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process_and_no_record(grid: ProcessGrid, sent: signal.Signals) -> None:
    (number,) = grid.add("2:4")
    node = grid.nodes[number]
    assert grid.stop(number, sent) == 0, "".join(node.running.output)
    assert "Left the grid." in node.running.output[-1]
    _, alive = psutil.wait_procs(node.family, timeout=30)
    assert not alive
    assert node.peer not in {record["peer"] for record in status(grid)["nodes"]}


def test_stopping_while_it_starts(grid: ProcessGrid) -> None:
    number = grid.start("0:8")
    running = grid.nodes[number].running
    running.wait_for("Entering")
    helpers = psutil.Process(running.pid).children(recursive=True)
    assert running.stop() == 0, "".join(running.output)
    _, alive = psutil.wait_procs(helpers, timeout=30)
    assert not alive


def test_a_node_whose_daemon_dies_enters_again(grid: ProcessGrid) -> None:
    (number,) = grid.add("4:6")
    node = grid.nodes[number]
    daemon = node.family[1]
    daemon.kill()
    node.wait_until_serving()
    assert node.span == (4, 6)
    assert not daemon.is_running()
    assert node.peer in {record["peer"] for record in status(grid)["nodes"]}
    assert grid.stop(number) == 0
    _, alive = psutil.wait_procs(node.family, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--model", "nosuch"), ("no model 'nosuch'", "demo")),
        (("--blocks", "4:99"), ("4:99", "0:8")),
        (("--memory", "10KiB"), ("Not one block fits", "10.0 KiB", "--memory")),
        (("--blocks", "0:8", "--memory", "70MiB"), ("Blocks 0:8 do not fit", "70.0 MiB")),
        (("--host-maddrs", "localhost:80"), ("localhost:80",)),
    ],
)
def test_what_cannot_be_served_has_its_sentence(
    grid: ProcessGrid, tmp_path: Path, args: tuple[str, ...], says: tuple[str, ...]
) -> None:
    sentence = refused(grid, "--identity", str(tmp_path / "spare.key"), *args)
    for text in says:
        assert text in sentence


def test_serving_needs_a_grid(grid: ProcessGrid, tmp_path: Path) -> None:
    done = gridllm(tmp_path, *grid.serve_args())
    assert done.returncode == 1
    assert "run: gridllm join" in done.stderr
