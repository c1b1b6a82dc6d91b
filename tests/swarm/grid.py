"""A grid of real processes on loopback, started by command: one bootstrap, any number of serving nodes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.command import Running, gridllm
from tests.ports import free_port

SERVING = "serving blocks "
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
BUSY_S = 60.0  # for one answer on a machine that does much else


@dataclass
class Node:
    """One ``gridllm serve``, its helpers included."""

    running: Running
    asked_s: float  # time.monotonic() at its start
    line: str = ""  # its "serving blocks …" line
    serving_after_s: float = 0.0
    family: list[psutil.Process] = field(default_factory=list)  # itself and its libp2p daemon

    @property
    def span(self) -> tuple[int, int]:
        start, end = self.line.removeprefix(SERVING).split(" ", 1)[0].split(":")
        return int(start), int(end)

    @property
    def peer(self) -> str:
        return self.line.split(" as ", 1)[1].split(" ", 1)[0]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.family]

    def wait_until_serving(self, timeout_s: float = 150.0) -> None:
        """Read its stdout up to the next "serving blocks" line."""
        self.line = self.running.wait_for(SERVING, timeout_s).strip()
        self.serving_after_s = time.monotonic() - self.asked_s
        itself = psutil.Process(self.running.pid)
        self.family = [itself, *itself.children(recursive=True)]


class ProcessGrid:
    """Handed out by ``process_grid``. ``home`` is a volunteer's and client's home that has joined the grid."""

    def __init__(self, folder: Path, pace: str = "brief", cold: bool = False) -> None:
        self.home = folder / "volunteer"
        self.pace = pace
        """Of examinations: "brief" or "full"."""
        self.cold = cold
        """Start nodes in interpreters of their own."""
        self.address = ""
        self.nodes: list[Node] = []
        self._folder = folder
        self.maintainers = [folder / "maintainer"]
        """Their homes, for ``gridllm bootstrap …``."""
        self.bootstraps: dict[int, Running] = {}
        """Their first peers, by the maintainer's number."""
        self._everyone: list[psutil.Process] = []

    @property
    def maintainer(self) -> Path:
        """Home of the one who founded the grid."""
        return self.maintainers[0]

    @property
    def bootstrap(self) -> Running | None:
        """The first maintainer's first peer."""
        return self.bootstraps.get(0)

    @property
    def data_dir(self) -> Path:
        """Where a client in the test's own process finds the pinned charter: ``Grid(grid.data_dir)``."""
        return self.home / "data" / "gridllm"

    @property
    def pids(self) -> list[int]:
        """Of all nodes and their helpers, dead or alive."""
        return [pid for node in self.nodes for pid in node.pids]

    def found(
        self,
        model: str,
        dtype: str | None = None,
        admission: Sequence[str] = ("--open",),
        maintainers: int = 1,
        threshold: int = 1,
    ) -> None:
        """Found the grid, run its first peers, join it.

        Args:
            admission: flags of ``gridllm bootstrap init``; an open grid measures nobody.
            maintainers: each with a home of its own and a first peer.
            threshold: of them must sign.
        """
        self.maintainers += [self._folder / f"maintainer{number}" for number in range(1, maintainers)]
        council = [flag for home in self.maintainers[1:] for flag in self._key(home)]
        if council:
            council += ["--threshold", str(threshold)]
        wishes = ["--name", "test", "--model", model, *(["--dtype", dtype] if dtype else []), *admission]
        drafted = self.maintain("init", *wishes, *_listening(), *council)
        if council:
            signing = self.maintainers * 2  # who signs before there are enough signatures installs in a second round
            for home in signing:
                self.maintain("sign", str(drafted["file"]), home=home)
        self.address = str(self.maintain("show")["join"][0]).removeprefix("gridllm join ")
        for number in range(maintainers):
            self.start_bootstrap(number)
        # Each node is measured when it serves.
        joined = gridllm(self.home, "join", "--no-admission", self.address)
        assert joined.returncode == 0, joined.stderr

    def maintain(self, *args: str, home: Path | None = None) -> dict[str, Any]:
        """One ``gridllm bootstrap`` command of the first maintainer, or of ``home``: its JSON."""
        done = gridllm(home or self.maintainer, "bootstrap", *args, "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def start_bootstrap(self, number: int = 0) -> None:
        """Run a maintainer's first peer: for the first time, or again after ``stop_bootstrap``."""
        running = Running(self.maintainers[number], "bootstrap", "run", "--pace", self.pace)
        self.bootstraps[number] = running
        running.wait_for("Ready")
        itself = psutil.Process(running.pid)
        self._everyone += [itself, *itself.children(recursive=True)]

    def stop_bootstrap(self, number: int = 0) -> None:
        """Ctrl-C to a first peer."""
        self.bootstraps[number].stop()

    def _key(self, home: Path) -> list[str]:
        """Another maintainer's keys, as flags for ``gridllm bootstrap init``."""
        made = self.maintain("key", "--name", "test", *_listening(), home=home)
        return ["--maintainer", made["maintainer"], "--first-peer", made["first_peers"][0]]

    def serve_args(self, *extra: str) -> list[str]:
        """A serve command of one thread on loopback; add ``--identity`` and ``--blocks``."""
        return ["serve", "--host-maddrs", LOOPBACK, "--threads", "1", *extra]

    def start(self, blocks: str = "auto", *extra: str) -> int:
        """Start one more node without waiting for it; returns its number."""
        number = len(self.nodes)
        key = self._folder / f"node{number}.key"
        args = self.serve_args("--identity", str(key), "--blocks", blocks, *extra)
        self.nodes.append(Node(Running(self.home, *args, cold=self.cold), time.monotonic()))
        return number

    def add(self, *spans: str, extra: Sequence[str] = (), timeout_s: float = 150.0) -> list[int]:
        """Start nodes together and wait until all of them serve; returns their numbers.

        Args:
            timeout_s: from one line of their output to the next.
        """
        numbers = [self.start(span, *extra) for span in spans]
        for number in numbers:
            self.nodes[number].wait_until_serving(timeout_s)
            self._everyone += self.nodes[number].family
        return numbers

    def kill(self, number: int) -> None:
        """``kill -9`` of the node's own process; its libp2p daemon follows by itself."""
        self.nodes[number].running.process.send_signal(signal.SIGKILL)

    def freeze(self, number: int, *, daemon: bool = False) -> None:
        """SIGSTOP. Without ``daemon`` only Python stands still and connections stay up: the hardest to notice."""
        for process in self.nodes[number].family[: None if daemon else 1]:
            process.suspend()

    def thaw(self, number: int) -> None:
        """SIGCONT."""
        for process in self.nodes[number].family:
            with suppress(psutil.NoSuchProcess):  # a node that is back may replace its daemon at once
                process.resume()

    def stop(self, number: int, sent: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, and the exit code."""
        return self.nodes[number].running.stop(sent)

    def close(self) -> None:
        """End everything by pid; nothing may be left."""
        for number, node in enumerate(self.nodes):
            if node.running.process.poll() is None:
                self.thaw(number)
                node.running.process.send_signal(signal.SIGINT)
                node.running.process.send_signal(signal.SIGTERM)  # twice: no waiting for sessions
        every = [*(node.running for node in self.nodes), *self.bootstraps.values()]
        for running in every:
            running.__exit__(None, None, None)
        _, alive = psutil.wait_procs(self._everyone, timeout=60)
        assert not alive, f"left behind: {alive}"


@contextmanager
def process_grid(
    folder: Path,
    *spans: str,
    model: str = "demo",
    dtype: str | None = None,
    extra: Sequence[str] = (),
    admission: Sequence[str] = ("--open",),
    maintainers: int = 1,
    threshold: int = 1,
    pace: str = "brief",
    cold: bool = False,
) -> Iterator[ProcessGrid]:
    """A running grid with one node for each of ``spans`` ("0:4", "auto"); ends it, and sees to it that nothing is left.

    Args:
        folder: temporary; homes and keys go below it.
        model: "demo" or a model folder.
        extra: more flags for each node.
        admission: flags with which it is founded: () measures every machine by the default minimums.
        maintainers: how many, each with a first peer (and authority).
        threshold: how many of them must sign.
        pace: of examinations; "full" is what people get.
        cold: nodes start in interpreters of their own, as for people: for what a start and a process's memory cost.
    """
    grid = ProcessGrid(folder, pace, cold)
    try:
        grid.found(model, dtype, admission, maintainers, threshold)
        path = [] if model == "demo" else ["--path", model]
        grid.add(*spans, extra=[*path, *extra])
        yield grid
    finally:
        grid.close()


def _listening() -> tuple[str, ...]:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    return "--host-maddrs", listen, "--announce-maddrs", listen
