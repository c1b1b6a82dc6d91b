"""The PostgreSQL server that tests use is a real one, keeps what was committed, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.postgres import SETTINGS, PostgresServer, postgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path) as running:
        yield running


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[Engine]:
    made = create_engine(server.database(), pool_pre_ping=True)
    yield made
    made.dispose()


def family_of(server: PostgresServer) -> list[psutil.Process]:
    main = psutil.Process(server.pid)
    return [main, *main.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # reaped between the two questions
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def shared_memory() -> set[str]:
    """Ids of the machine's System V shared memory segments."""
    program = shutil.which("ipcs")
    assert program is not None, "ipcs is part of every Linux and macOS"
    lines = subprocess.run([program, "-m"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[1] for line in lines if line.startswith(("0x", "m "))}


def put(engine: Engine, number: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO kept VALUES (:number)"), {"number": number})


def test_databases_are_empty_and_apart_and_the_server_durable(server: PostgresServer, engine: Engine) -> None:
    other = create_engine(server.database())
    for each in (engine, other):
        with each.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar() == 0
            connection.execute(text("CREATE TABLE kept (number integer)"))
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses"):
                assert connection.execute(text(f"SHOW {name}")).scalar() == SETTINGS[name]
    other.dispose()


def test_committed_rows_survive_kill_9_and_others_do_not(server: PostgresServer, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (number integer PRIMARY KEY)"))
    for number in range(5):
        put(engine, number)
    before = family_of(server)
    open_one = engine.connect()
    open_one.execute(text("INSERT INTO kept VALUES (99)"))
    server.kill()
    assert not alive(before)
    with pytest.raises(OperationalError):
        open_one.execute(text("SELECT 1"))
    open_one.invalidate()
    open_one.close()

    server.start()
    put(engine, 5)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT number FROM kept ORDER BY number")).scalars().all()
    assert kept == [0, 1, 2, 3, 4, 5]
    assert "database system was not properly shut down" in server.log_path.read_text()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with postgres(tmp_path) as url:
        home = Path(url.partition("?host=")[2])
        main = psutil.Process(int((home / "data" / "postmaster.pid").read_text().splitlines()[0]))
        processes = [main, *main.children(recursive=True)]
    assert len(processes) > 3
    assert not alive(processes)
    assert not home.exists()


def test_nothing_is_left_behind_after_a_kill(tmp_path: Path) -> None:
    with PostgresServer(tmp_path) as server:
        home = Path(server.database().partition("?host=")[2])
        shared = (home / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
        assert shared in shared_memory()
        server.kill()
        assert shared in shared_memory(), "what a kill leaves, and close has to free"
    assert shared not in shared_memory()
    assert not home.exists()
