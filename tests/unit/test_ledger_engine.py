"""The ledger's database: what SQLite is set to, what each kind of transaction may do, and what a wrong URL is told."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from gridllm.database import engine as room
from gridllm.database.engine import reading, writing
from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine

SECRET = "geheim"  # noqa: S105 - opens nothing


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with writing(made) as connection:
        connection.execute(text("CREATE TABLE payer (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE paid (payer INTEGER NOT NULL REFERENCES payer (id))"))
    yield made
    made.dispose()


def add_payer(engine: Engine, number: int) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO payer VALUES (:number)"), {"number": number})


def payers(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM payer")).scalar_one())


def test_sqlite_keeps_what_was_committed(engine: Engine) -> None:
    with reading(engine) as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "busy_timeout": room.LOCK_WAIT_S * 1000,
    }


def test_foreign_keys_hold_and_keep_their_own_error(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(text("INSERT INTO paid VALUES (7)"))


def test_a_writer_that_raises_has_written_nothing_tables_included(engine: Engine) -> None:
    def write() -> None:
        with writing(engine) as connection:
            connection.execute(text("INSERT INTO payer VALUES (1)"))
            connection.execute(text("CREATE TABLE half (id INTEGER)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 'half'")).scalar() == 0
    assert payers(engine) == 0


def test_a_reader_sees_one_state_and_writes_nothing(engine: Engine) -> None:
    with reading(engine) as connection:
        count = text("SELECT count(*) FROM payer")
        assert connection.execute(count).scalar() == 0
        add_payer(engine, 1)
        assert connection.execute(count).scalar() == 0
    assert payers(engine) == 1
    with pytest.raises(LedgerError, match="readonly"), reading(engine) as connection:
        connection.execute(text("INSERT INTO payer VALUES (2)"))
    add_payer(engine, 2)  # the same connection, from the pool, writes again
    assert payers(engine) == 2


def test_writers_wait_for_each_other_and_lose_no_update(engine: Engine) -> None:
    add_payer(engine, 1)
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE sum (value INTEGER)"))
        connection.execute(text("INSERT INTO sum VALUES (0)"))
    failed: list[BaseException] = []

    def add() -> None:
        try:
            for _ in range(20):
                with writing(engine) as connection:  # read, then write: a deferred BEGIN fails here
                    value = connection.execute(text("SELECT value FROM sum")).scalar_one()
                    connection.execute(text("UPDATE sum SET value = :value"), {"value": value + 1})
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    with reading(engine) as connection:
        assert connection.execute(text("SELECT value FROM sum")).scalar() == 80


def test_a_lock_that_stays_is_named_and_the_connection_usable_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOCK_WAIT_S", 0.05)
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="another program has written"), writing(engine):
        pass
    other.execute("ROLLBACK")
    other.close()
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE payer (id INTEGER PRIMARY KEY)"))
    assert payers(engine) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"nonsense {SECRET}", "cannot be read: write sqlite:"),
        (f"postgresql://keeper:{SECRET}@127.0.0.1:port/ledger", "cannot be read"),
        (f"postgresql://keeper:{SECRET}@[::1/ledger", "cannot be read"),
        (f"postgresql://keeper:x@{SECRET}@127.0.0.1/ledger", "the one in the password as %40"),
        (f"mysql://keeper:{SECRET}@127.0.0.1/ledger", "cannot be kept in 'mysql'"),
        (f"postgresql+asyncpg://keeper:{SECRET}@127.0.0.1/ledger", "cannot be kept in"),
        (f"postgresql+psycopg://keeper:{SECRET}@127.0.0.1:1/ledger", "refused.*check that the server runs"),
        (f"postgres://127.0.0.1:1/ledger?user=keeper&password={SECRET}", "refused"),
        (f"postgresql://keeper:{SECRET}@127.0.0.1:1/ledger?sslmode={SECRET}", "invalid sslmode"),
        (f"postgresql://127.0.0.1:1/ledger?password={SECRET}&colour=red", "colour"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////no/such/folder/ledger.db", "a folder that exists"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_its_password(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as raised:
        open_engine(url)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_file_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Sir or Madam, " * 400)
    with pytest.raises(LedgerError, match="not a database"):
        open_engine(f"sqlite:///{letter}")
    assert letter.read_text().startswith("Dear")


def test_without_its_driver_postgresql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'gridllm\[postgres\]'") as raised:
        open_engine(f"postgresql://keeper:{SECRET}@127.0.0.1/ledger")
    assert SECRET not in str(raised.value)
