"""Several ``gridllm`` commands at once, in a home of their own, all of them stopped at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gridllm.errors import GridError

STOP_S: Final = 12.0  # for all processes together to leave after Ctrl-C
KILL_S: Final = 3.0  # for a killed one to be gone
LAST_WORDS: Final = 12  # lines of a failed process that are shown


class DemoError(GridError):
    """A process of the demo failed."""


class Process:
    """One command running in the background. What it writes is read by a thread."""

    def __init__(self, name: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self.name = name
        self.lines: list[str] = []
        # A session of its own: Ctrl-C in the terminal reaches only us, and we stop it in good order.
        self._process = subprocess.Popen(  # noqa: S603  # our own command, with our own arguments
            (sys.executable, "-m", "gridllm", *arguments),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """Its latest lines, for an error message."""
        return "\n  ".join(self.lines[-LAST_WORDS:]) or "(nothing)"

    def wait(self, timeout_s: float) -> None:
        """Wait for its end.

        Raises:
            DemoError: it failed, or takes too long.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} did not finish within {timeout_s:.0f} s:\n  {self.last_words()}") from None
        self._reader.join(1.0)
        if code:
            raise DemoError(f"{self.name} failed with code {code}:\n  {self.last_words()}")

    def interrupt(self) -> None:
        """Ask it to leave, as Ctrl-C does."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)

    def end(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic time) for its end, then kill it and all it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # its session: helpers it may have left behind
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)
        self._reader.join(1.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            with contextlib.suppress(ValueError):  # closed under our hands at the end
                for line in self._process.stdout:
                    self.lines.append(line.rstrip())


class Fleet:
    """Processes with one home; leaving the ``with`` block stops all of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.processes: list[Process] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "GRIDLLM_"))}
        xdg = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        self._environ = kept | xdg | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}

    @property
    def data_dir(self) -> Path:
        """Where its commands keep keys and charters."""
        return self.home / "data" / "gridllm"

    def start(self, name: str, *arguments: str) -> Process:
        """Start a command in the background."""
        process = Process(name, arguments, self._environ)
        self.processes.append(process)
        return process

    def run(self, name: str, *arguments: str, timeout_s: float = 90.0) -> Process:
        """Run a command to its end.

        Raises:
            DemoError: it failed.
        """
        process = self.start(name, *arguments)
        process.wait(timeout_s)
        return process

    def check(self) -> None:
        """Make sure that nothing which should be running has ended.

        Raises:
            DemoError: something has, with its last words.
        """
        for process in self.processes:
            if process.code:
                raise DemoError(f"{process.name} ended with code {process.code}:\n  {process.last_words()}")

    def stop(self) -> None:
        """End everything that was started here; idempotent."""
        for process in reversed(self.processes):
            process.interrupt()
        deadline = time.monotonic() + STOP_S
        for process in reversed(self.processes):
            process.end(deadline)
        self.processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave processes behind.
        with _uninterrupted():
            self.stop()


@contextlib.contextmanager
def _uninterrupted():  # type: ignore[no-untyped-def]  # a generator of one None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
