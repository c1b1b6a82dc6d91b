"""What the database itself finds wrong: SQLite's file, its tables' definitions, the version they are at."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from gridllm.database.engine import reading
from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import MIGRATIONS, migrate


def check_file(engine: Engine) -> None:
    """Check all that is not a row.

    Raises:
        LedgerError: says what is wrong.
    """
    with reading(engine) as connection:
        versions = [tuple(row) for row in connection.exec_driver_sql("SELECT version_num FROM alembic_version")]
        if versions != [(_newest(),)]:
            raise LedgerError(
                f"The ledger's database is damaged: table alembic_version says {versions}, not {_newest()}."
            )
        if engine.dialect.name != "sqlite":
            return  # PostgreSQL's definitions are typed, and its pages have checksums where its owner wants them
        if _definitions(connection) != _sound_definitions():
            raise LedgerError("The ledger's database is damaged: SQLite's file defines other tables than it should.")
        for (found,) in connection.exec_driver_sql("PRAGMA integrity_check(1)"):
            if found != "ok":
                raise LedgerError(f"The ledger's database is damaged: SQLite finds in its file: {found}.")


def _newest() -> str:
    """The version that all migrations lead to."""
    return str(ScriptDirectory(str(MIGRATIONS)).get_current_head())


def _definitions(connection: Connection) -> list[tuple[str, ...]]:
    """All but statistics, which ANALYZE leaves."""
    found = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    )
    return sorted(tuple(str(value) for value in row) for row in found)


@cache
def _sound_definitions() -> list[tuple[str, ...]]:
    """Those of a fresh database: all have come through the same migrations."""
    with tempfile.TemporaryDirectory(prefix="gridllm-ledger-") as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'fresh.db'}")
        try:
            migrate(engine)
            with reading(engine) as connection:
                return _definitions(connection)
        finally:
            engine.dispose()
