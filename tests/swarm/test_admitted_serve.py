"""A volunteer's path through admission, by command: join and be measured, serve, be renewed while clients generate,
serve on without authorities until the certificate expires, and come back."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridllm_client import Grid
from tests.command import Running, gridllm
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid

pytestmark = pytest.mark.timeout(420)

LIFE_S = 30  # the shortest there is
RENEWED_S = 50  # a renewal that waited for the last fifth of it still has ten seconds
PIECE_S = 0.02  # a reader takes a piece of text in: without it, one client keeps a processor busy
FEW = ("--host-maddrs", LOOPBACK, "--threads", "1", "--memory", "200MiB")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    """A grid with the default minimums, whose certificates are short-lived."""
    admission = ("--certificate-life", f"{LIFE_S}s")
    with process_grid(tmp_path_factory.mktemp("grid"), admission=admission) as running:
        yield running


def join(home: Path, grid: ProcessGrid, *args: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON document and stderr of a join."""
    done = gridllm(home, "join", grid.address, *FEW, "--json", *args, timeout_s=150)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_join_measures_and_shows_each_minimum(grid: ProcessGrid, tmp_path: Path) -> None:
    done = gridllm(tmp_path, "join", grid.address, *FEW, timeout_s=150)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "decode, eight sessions",
        "memory held",
        "upload",
        "reachable",
        "Admitted to serve, relay, seed until",
    ):
        assert text in done.stdout
    for text in ("Ctrl-C skips it", "measures this machine (1 of 1)", "Filling memory", "Computing a prompt"):
        assert text in done.stderr
    me = json.loads(gridllm(tmp_path, "id", "--json").stdout)
    (held,) = me["certificates"]
    assert (held["peer"], held["name"]) == (me["peer"], "test")
    code, again, _ = join(tmp_path, grid)
    if time.time() < held["expires"] - LIFE_S / 4:  # else it lasts too short to begin with, and it is measured again
        assert again["admission_outcome"]["certificate"] == {k: v for k, v in held.items() if k != "name"}
    assert (code, again["new"], again["admission_outcome"]["admitted"]) == (0, False, True)


def test_a_client_need_not_be_measured(grid: ProcessGrid, tmp_path: Path) -> None:
    code, facts, _ = join(tmp_path, grid, "--no-admission")
    assert (code, facts["pinned"], facts["new"]) == (0, True, True)
    assert "admission_outcome" not in facts
    assert json.loads(gridllm(tmp_path, "id", "--json").stdout)["certificates"] == []


def test_ctrl_c_leaves_the_grid_joined(grid: ProcessGrid, tmp_path: Path) -> None:
    with Running(tmp_path, "join", grid.address, *FEW) as joining:
        joining.wait_for("measures this machine")
        assert joining.stop(signal.SIGINT) == 130, "".join(joining.output)
        assert "The grid stays joined" in "".join(joining.output)
        assert "Traceback" not in "".join(joining.output)
    assert [one["name"] for one in json.loads(gridllm(tmp_path, "grids", "--json").stdout)] == ["test"]


def test_what_is_short_is_named_and_exits_1(grid: ProcessGrid, tmp_path: Path) -> None:
    code, facts, _ = join(tmp_path, grid, "--role", "serve", "--memory", "1MiB")
    outcome = facts["admission_outcome"]
    assert (code, facts["pinned"], outcome["admitted"], outcome["certificate"]) == (1, True, False, None)
    assert "memory" in outcome["text"]
    assert outcome["reason"] == "short"


def test_a_role_that_there_is_not(grid: ProcessGrid, tmp_path: Path) -> None:
    done = gridllm(tmp_path, "join", grid.address, "--role", "king")
    assert done.returncode == 2
    assert "no role 'king'; --role takes serve, relay, seed" in done.stderr


class Reader(threading.Thread):
    """A client that generates without end, and notes the longest pause between two pieces of text."""

    def __init__(self, grid: ProcessGrid) -> None:
        super().__init__()
        self._data_dir = grid.data_dir
        self.done = threading.Event()
        self.longest_s = 0.0
        self.texts: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with Grid(self._data_dir) as joined:
                model = joined.model("demo")
                while not self.done.is_set():
                    self._read(model)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.error = error

    def _read(self, model: Any) -> None:
        text, before = "", time.monotonic()
        for piece in model.stream("Once upon a time", max_new_tokens=200):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before)
            text, before = text + piece, now
            time.sleep(PIECE_S)
        self.texts.append(text)


@pytest.mark.soak  # a minute; renewal itself is in tests/unit, coming back after expiry below
def test_renewed_while_a_client_generates_without_pause(tmp_path: Path) -> None:
    with process_grid(tmp_path, "0:8", admission=("--certificate-life", f"{RENEWED_S}s")) as grid:
        renewed(grid, time.monotonic() + RENEWED_S)


def renewed(grid: ProcessGrid, until_s: float) -> None:
    (node,) = grid.nodes
    reader = Reader(grid)
    reader.start()
    try:
        node.running.wait_for("Certificate renewed, valid until", timeout_s=3 * RENEWED_S)
        time.sleep(max(0.0, until_s - time.monotonic()))  # its first certificate would be over
    finally:
        reader.done.set()
        reader.join(60)
    assert reader.error is None, reader.error
    assert reader.texts
    assert set(reader.texts) == {reader.texts[0]}, "greedy: the same text each time"
    assert "".join(node.running.output).count("serving blocks") == 1
    print(f"longest pause {reader.longest_s:.2f} s over {len(reader.texts)} texts")  # noqa: T201
    assert reader.longest_s < 10.0
    assert grid.stop(0) == 0


def test_without_authorities_it_serves_until_expiry_and_comes_back(grid: ProcessGrid, tmp_path: Path) -> None:
    (number,) = grid.add("0:8")
    node = grid.nodes[number]
    grid.stop_bootstrap()
    newcomer = gridllm(tmp_path, "join", grid.address, "--timeout", "60")
    assert newcomer.returncode == 1
    assert "Nobody answers at" in newcomer.stderr
    line = node.running.wait_for("serves nobody until it is admitted again", timeout_s=5 * LIFE_S)
    assert "has expired" in line
    assert "1 of 1 authorities must measure this machine; none answers" in line
    grid.start_bootstrap()
    node.wait_until_serving(timeout_s=180)
    assert grid.stop(number) == 0
