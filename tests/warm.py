"""Commands that start warm: a process that has torch and transformers loaded copies itself for each of them (fork).

Loading both takes four seconds of a processor, for every node, first peer and founding, and our own modules half a
second more: most of what tests of real processes used to cost. What starts so is a process like any other: session,
environment, pid and exit code of its own; only its modules are not taken apart when it ends (``_end``).
What a start itself costs, and what memory a process takes for itself, is only to be seen of one that started cold.

Run as ``python -m tests.warm FD`` it is that process; ``starter_for`` starts it.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

LOADED = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation",
    "gridllm.swarm.hivemind_parts",
    "uvloop",
    "typer",
    "rich.progress",
    "alembic.command",
    "gridllm.cli.main",
    "gridllm.ledger.store.migrate",
    "gridllm.node.lifecycle",
    "gridllm_bootstrap.serve",
    "gridllm_client.champion",
    "gridllm_client.grid",
    "gridllm_leaderboard.cli.main",
    "gridllm_leaderboard.grading.grader",
    "gridllm_leaderboard.serve",
)
MOST_BYTES = 128 * 1024  # of a question: its environment, mostly


class Warm:
    """A process that was started warm: the part of ``subprocess.Popen`` that tests use."""

    def __init__(self, pid: int, args: list[str], stdout: IO[str] | None) -> None:
        self.pid = pid
        self.args = args
        self.stdout = stdout
        self.returncode: int | None = None
        self._over = threading.Event()

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing, when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def ended(self, returncode: int) -> None:
        self.returncode = returncode
        self._over.set()


class Starter:
    """Our end: one for a whole run of tests, made when the first command asks for it."""

    def __init__(self, common: dict[str, str]) -> None:
        self.common = common
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                env=common | {"HF_HOME": "/nonexistent"},  # tests find no models that a person has downloaded
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._asking = threading.Lock()
        self._started = threading.Semaphore(0)
        self._pid = 0  # of the last that was started
        self._knowing = threading.Lock()
        self._running: dict[int, Warm] = {}
        self._early: dict[int, int] = {}  # exit codes of those that ended before we knew them
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        atexit.register(self.close)

    def start(self, args: Sequence[str], environ: Mapping[str, str]) -> Warm:
        """Like ``Popen(args, env=environ, start_new_session=True)`` with a pipe as its stdout and stderr."""
        reading, writing = os.pipe()
        told = os.fdopen(reading, encoding="utf-8")
        try:
            return self._start([*args], environ, (writing, writing), told)
        finally:
            os.close(writing)

    def run(
        self, args: Sequence[str], environ: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Like ``subprocess.run(args, env=environ, capture_output=True, text=True, timeout=timeout_s)``."""
        with TemporaryFile() as out, TemporaryFile() as err:
            warm = self._start([*args], environ, (out.fileno(), err.fileno()), None)
            try:
                code = warm.wait(timeout_s)
            except subprocess.TimeoutExpired:
                warm.kill()
                raise
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess([*args], code, out.read().decode(), err.read().decode())

    def close(self) -> None:
        """End it; what it has started goes on."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait(10)
        self._hearing.join(10)
        self._socket.close()

    def _start(
        self, args: list[str], environ: Mapping[str, str], outputs: tuple[int, int], told: IO[str] | None
    ) -> Warm:
        question = {"args": args, "environ": dict(environ), "folder": os.getcwd()}
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(question).encode()], outputs)
            if not self._started.acquire(timeout=120):
                raise AssertionError("the process that starts others does not answer")
            warm = Warm(self._pid, args, told)
        with self._knowing:
            self._running[warm.pid] = warm
            code = self._early.pop(warm.pid, None)
        if code is not None:
            warm.ended(code)
        return warm

    def _hear(self) -> None:
        while answer := self._socket.recv(MOST_BYTES):
            told = json.loads(answer)
            if "code" not in told:
                self._pid = told["pid"]
                self._started.release()
                continue
            with self._knowing:
                warm = self._running.pop(told["pid"], None)
                if warm is None:
                    self._early[told["pid"]] = told["code"]
            if warm is not None:
                warm.ended(told["code"])


_starters: list[Starter] = []  # one at most


def starter_for(program: Sequence[str], environ: Mapping[str, str]) -> Starter | None:
    """Who starts ``program`` warm; None where it must start cold.

    It must be a module that this Python runs, on a system where torch survives being copied, with the variables that
    all commands of a run of tests have: libraries read some when they are loaded.
    """
    if sys.platform != "linux" or program[:2] != (sys.executable, "-m"):
        return None
    common = {name: value for name, value in environ.items() if not name.startswith(("XDG_", "GRIDLLM_", "PYTEST_"))}
    if not _starters:
        _starters.append(Starter(common))
    return _starters[0] if _starters[0].common == common else None


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        control.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _serve(control: socket.socket) -> dict[str, Any]:
    """Copy ourselves for each question; returns in the copies only: what was asked."""
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            _reap(control)
        if control not in ready:
            continue
        question, outputs, _, _ = socket.recv_fds(control, MOST_BYTES, 2)
        if not question:
            os._exit(0)  # the tests are over
        ready, is_ready = os.pipe()
        pid = os.fork()
        if not pid:
            break
        for fd in (is_ready, *outputs):
            os.close(fd)
        os.read(ready, 1)  # its end: the copy has its group, and takes signals; those sent before would be lost
        os.close(ready)
        control.send(json.dumps({"pid": pid}).encode())
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, fd in zip((1, 2), outputs, strict=True):
        os.dup2(fd, standard)
    for fd in (waking, woken, ready, is_ready, *outputs):
        os.close(fd)
    asked: dict[str, Any] = json.loads(question)
    return asked


def _become(asked: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    _, _, module, *sys.argv[1:] = asked["args"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as asked_for:
        if not isinstance(asked_for.code, int | None):
            raise
        _end(asked_for.code or 0)


def _end(code: int) -> NoReturn:
    """As Python ends, but without taking its modules apart: the system would copy every page of them first, which took
    a quarter of a second of a processor, three times what a small command takes for itself."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as ever
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        file.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in LOADED:
        __import__(name)
    gc.collect()
    gc.freeze()  # so that the copies go on sharing it
    with socket.socket(fileno=int(sys.argv[1])) as mine:
        task = _serve(mine)
    _become(task)
