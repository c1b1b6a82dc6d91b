"""Worker processes that answer JSON lines, and what a set of processes costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent


class Worker:
    """A process of ours on the other end of a pipe."""

    def __init__(self, module: str, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("The worker has no pipes.")
        self._requests, self._answers = self.process.stdin, self.process.stdout

    def wait(self) -> None:
        """Until it says that it is ready."""
        if self._line() != "ready":
            raise RuntimeError("The worker's first line is not 'ready'.")

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request without waiting."""
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()

    def take(self) -> dict[str, Any]:
        """The next answer."""
        return json.loads(self._line())  # type: ignore[no-any-return]

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.ask(request)
        return self.take()

    def close(self) -> None:
        """Let it end by itself."""
        self._requests.close()
        self.process.wait(timeout=30)
        self._answers.close()

    def _line(self) -> str:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"The worker {self.process.args} ended with code {self.process.wait()}.")
        return line.strip()


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of processes so far, user and system, seconds."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(t.user + t.system for t in times)


def cpu_nanoseconds(pids: Iterable[int]) -> int:
    """The same as the scheduler counts it: for what takes milliseconds. Threads that ended are not in it. Linux."""
    threads = (thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def family(heads: Iterable[int]) -> list[int]:
    """Those processes and all below them."""
    own = [psutil.Process(pid) for pid in heads]
    return [one.pid for head in own for one in (head, *head.children(recursive=True))]
