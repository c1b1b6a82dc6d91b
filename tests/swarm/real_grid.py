"""A grid of real processes on loopback: the first peer, volunteers, and a client in this process."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gridllm_client.grid import Grid
from tests.command import Running, gridllm


@dataclass
class Volunteer:
    """One ``gridllm serve``."""

    running: Running
    blocks: str
    peer: str = ""

    def ready(self) -> None:
        """Wait until it serves."""
        line = self.running.wait_for("serving blocks", timeout_s=120)
        found = re.search(r" as (12D3Koo\w+)", line)
        assert found, line
        self.peer = found[1]

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL, or SIGSTOP and SIGCONT; to the Python process, by its pid."""
        os.kill(self.running.pid, number)


class RealGrid:
    """The processes, and where the client finds the pinned charter."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.volunteers: list[Volunteer] = []
        self._stack = stack
        self._count = 0

    @property
    def data_dir(self) -> Path:
        return self.home / "data" / "gridllm"

    def client(self) -> Grid:
        return Grid(self.data_dir)

    def add(self, *blocks: str) -> list[Volunteer]:
        """Start volunteers on these spans, all at once, and wait until they serve."""
        new = [self._start(span) for span in blocks]
        for volunteer in new:
            volunteer.ready()
        self.volunteers += new
        return new

    def of(self, peer: str) -> Volunteer:
        """The volunteer with that peer id."""
        return next(v for v in self.volunteers if v.peer == peer)

    def lose(self, volunteer: Volunteer, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill or freeze it; it counts as gone from now on."""
        volunteer.signal(number)
        self.volunteers.remove(volunteer)

    def _start(self, span: str) -> Volunteer:
        self._count += 1
        key = self.home / f"node-{self._count}.key"
        options = ("--blocks", span, "--identity", str(key), "--host-maddrs", "/ip4/127.0.0.1/tcp/0")
        running = Running(self.home, "serve", *options, "--cache-tokens", "8192", "--threads", "1", "--grace", "1")
        self._stack.callback(_end, running)
        return Volunteer(running, span)


@contextmanager
def real_grid(home: Path, model: str = "demo") -> Iterator[RealGrid]:
    """Found a grid, run its first peer, join it."""
    listen = f"/ip4/127.0.0.1/tcp/{_free_port()}"
    maddrs = ("--host-maddrs", listen, "--announce-maddrs", listen)
    founded = gridllm(home, "bootstrap", "init", "--name", "test", "--model", model, *maddrs)
    assert founded.returncode == 0, founded.stderr
    with ExitStack() as stack:
        first = Running(home, "bootstrap", "run")
        stack.callback(_end, first)
        address = first.wait_for("gridllm join ", timeout_s=60).split()[-1]
        joined = gridllm(home, "join", address)
        assert joined.returncode == 0, joined.stderr
        yield RealGrid(home, stack)


def _end(running: Running) -> None:
    """Stop it whatever state it is in."""
    process = running.process
    if process.poll() is None:
        os.kill(running.pid, signal.SIGCONT)
        os.killpg(running.pid, signal.SIGINT)
        deadline = time.monotonic() + 15
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    if process.poll() is None:
        process.kill()
    process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
