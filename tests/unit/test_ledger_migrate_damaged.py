"""A file whose bytes have rotted is named as damaged when the ledger is opened, not by Python's own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.db"
    engine = open_engine(f"sqlite:///{made}")
    migrate(engine)
    engine.dispose()
    return made


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{path}")
    yield made
    made.dispose()


def test_a_version_that_is_no_text(path: Path, engine: Engine) -> None:
    with sqlite3.connect(path) as file:
        file.execute("UPDATE alembic_version SET version_num = CAST(x'ff31' AS TEXT)")
    file.close()
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used.*UTF-8"):
        migrate(engine)


@pytest.mark.parametrize("table", [b"TABLE entries", b"TABLE accounts", b"TABLE alembic_version"])
def test_a_definition_that_is_no_text(path: Path, table: bytes) -> None:
    raw = path.read_bytes()
    at = raw.index(table)  # in the text that SQLite parses when it opens the file, and quotes
    path.write_bytes(raw[:at] + b"\xffABLE" + raw[at + 5 :])
    with pytest.raises(LedgerError, match=r"ledger\.db (is damaged|cannot be used)"):
        migrate(open_engine(f"sqlite:///{path}"))


def test_sqlite_quotes_what_is_no_text(path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def quotes(connection: object) -> str:
        return b"near \xff".decode()

    monkeypatch.setattr("gridllm.database.migrate._version", quotes)
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged.*put back its newest copy"):
        migrate(engine)


def test_two_versions_at_once(path: Path, engine: Engine) -> None:
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO alembic_version VALUES ('another')")
    file.close()
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged"):
        migrate(engine)
