"""Brings a ledger's database to the tables this code works with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from gridllm.database import migrate as database

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(engine: Engine, migrations: Path = MIGRATIONS) -> str:
    """Apply the migrations that the database lacks, all or none of them: the version it is at then.

    Raises:
        LedgerError: a newer GridLLM wrote the database, it is damaged, or a migration fails.
    """
    return database.migrate(engine, migrations)
