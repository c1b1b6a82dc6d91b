"""Runs the ``gridllm`` command as people do: a process of its own, with a home of its own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import warm

COMMAND = (sys.executable, "-m", "gridllm")
OURS = ("XDG_", "GRIDLLM_", "TORCHINDUCTOR_")  # the last is set by torch in this process, whenever it is imported
LAST_WORDS_S = 10.0  # for a helper of a process that was killed to let go of its output, too

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; what we start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def home_environ(home: Path, **extra: str) -> dict[str, str]:
    """An environment in which everything is kept below ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    xdg = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    quiet = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    return kept | xdg | quiet | extra


def gridllm(home: Path, *args: str, timeout_s: float = 150.0, cold: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; warm or ``cold`` as ``Running`` is."""
    environ = home_environ(home)
    starter = None if cold else warm.starter_for(COMMAND, environ)
    if starter is not None:
        return starter.run([*COMMAND, *args], environ, timeout_s)
    return subprocess.run(
        [*COMMAND, *args],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Running:
    """A command that serves until it is stopped; leaving the ``with`` block ends it, by its pid.

    Unless it is to start ``cold``, in an interpreter of its own, it starts warm (``warm.py``) where that can be.
    """

    def __init__(self, home: Path, *args: str, program: tuple[str, ...] = COMMAND, cold: bool = False) -> None:
        self.process: subprocess.Popen[str] | warm.Warm
        environ = home_environ(home)
        starter = None if cold else warm.starter_for(program, environ)
        if starter is not None:
            self.process = starter.start([*program, *args], environ)
        else:
            self.process = subprocess.Popen(
                [*program, *args],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # a process group of its own: Ctrl-C can reach all of it, as in a terminal
            )
        self.pid = self.process.pid
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def wait_for(self, text: str, timeout_s: float = 120.0) -> str:
        """The first line from now on that holds ``text``."""
        while True:
            try:
                line = self._lines.get(timeout=timeout_s)
            except queue.Empty:
                raise AssertionError(f"no line with {text!r} in {timeout_s} s after:\n{''.join(self.output)}") from None
            if line is None:
                raise AssertionError(f"the command ended without a line with {text!r}:\n{''.join(self.output)}")
            if text in line:
                return line

    def stop(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 60.0) -> int:
        """Send a signal and wait for the end: the exit code. SIGINT goes to the whole group, as Ctrl-C does."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):  # it ended by itself, just now
                if number is signal.SIGINT:
                    os.killpg(self.pid, number)
                else:
                    self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit code, once it has ended and all that it said is in ``output``. Raises subprocess.TimeoutExpired."""
        code = self.process.wait(timeout_s)
        self._reading.join(LAST_WORDS_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                self.output.append(line)
                self._lines.put(line)
        self._lines.put(None)
