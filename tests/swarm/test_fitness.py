"""A real node whose machine becomes slow: its clients notice, it is measured again, and certified as what it is now."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from gridllm.admission.gate import Gatekeeper
from gridllm.ids import ModelRoot
from gridllm.wire.record import NodeRecord
from gridllm_client import Grid
from tests.swarm.grid import ProcessGrid, process_grid

# In memory the same story is in the default tests: tests/unit/test_fitness_together.py.
pytestmark = [pytest.mark.timeout(480), pytest.mark.soak]

CLIENTS, SESSIONS = 5, 5  # a suspicion takes 20 in all; a report or two may get lost
TOKENS = 24
SPACING_S = 5.5  # between two reports of one client
RUN_S, STAND_S = 0.015, 0.06  # a machine at a fifth of its speed


@contextmanager
def slowed(pid: int) -> Iterator[None]:
    """Stop and continue a process many times a second, as a machine does that has other work."""
    process, over = psutil.Process(pid), threading.Event()

    def disturb() -> None:
        while not over.wait(RUN_S):
            process.suspend()
            time.sleep(STAND_S)
            process.resume()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def record_of(client: Grid) -> NodeRecord:
    (record,) = client.status()["demo"]
    return record


def wait_for(client: Grid, peer: str, timeout_s: float) -> None:
    """Until the client has heard of the revocation of the older certificate."""
    until_s = time.monotonic() + timeout_s
    while client._net.board.revocation(peer) is None:  # type: ignore[arg-type]
        assert time.monotonic() < until_s, "no revocation came"
        time.sleep(0.5)


def generate_together(clients: list[Grid]) -> None:
    """Each client in turn, so that none waits for another's tokens; none more often than it may report."""
    for _ in range(SESSIONS):
        began = time.monotonic()
        for client in clients:
            client.model("demo").generate("Once upon a time", max_new_tokens=TOKENS)
        time.sleep(max(0.0, SPACING_S - (time.monotonic() - began)))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    """One node of the whole model, measured by the grid's one authority."""
    few = ("--memory", "200MiB")
    with process_grid(
        tmp_path_factory.mktemp("grid"), "0:8", admission=("--certificate-life", "1h"), extra=few
    ) as running:
        yield running


def test_nobody_is_told_anything_where_the_setting_says_so(grid: ProcessGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDLLM_REPORTS", "0")
    with Grid(grid.data_dir) as client:
        assert client._net.reporter is None
        assert client.model("demo").generate("Once upon a time", max_new_tokens=4)


def test_a_slow_node_gets_the_certificate_that_it_deserves(grid: ProcessGrid) -> None:
    assert grid.bootstrap is not None
    node = grid.nodes[0]
    with ExitStack() as stack:
        clients = [stack.enter_context(Grid(grid.data_dir)) for _ in range(CLIENTS)]
        before = record_of(clients[0])
        gate: Gatekeeper = clients[0]._net.gate
        old = gate.check(before.certificate, before.peer)
        assert old is not None
        with slowed(node.running.pid):
            generate_together(clients)
            suspected = grid.bootstrap.wait_for("slower than certified", timeout_s=30)
            assert f"{CLIENTS} clients" in suspected
            grid.bootstrap.wait_for("certified lower", timeout_s=180)
        wait_for(clients[0], node.peer, timeout_s=90)
        after = record_of(clients[0])
        new = gate.check(after.certificate, after.peer, model=ModelRoot(after.model))
        assert new is not None
        assert new.issued > old.issued
        assert new.figures.decode_blocks_per_s < 0.6 * old.figures.decode_blocks_per_s
        assert after.blocks_per_s <= new.figures.decode_blocks_per_s
        assert clients[0].model("demo").generate("Once upon a time", max_new_tokens=4)
    assert grid.stop(0) == 0
