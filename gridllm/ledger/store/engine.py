"""Opens the ledger's database; its transactions are those of ``gridllm.database.engine``."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Engine

from gridllm.database import engine as database
from gridllm.database.purpose import Purpose
from gridllm.errors import LedgerError

LEDGER: Final = Purpose(
    name="ledger",
    error=LedgerError,
    losing="acknowledged vouchers",
    mend="put back its newest copy, while the other keepers are on line",
    version_table="alembic_version",
    lock=int.from_bytes(b"gridllm"),  # PostgreSQL's locks of this kind are numbers
)


def open_engine(url: str) -> Engine:
    """Open ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``postgresql+psycopg://user@host/database``.

    Raises:
        LedgerError: the URL is wrong, its driver is missing, or the database cannot be used; says no password.
    """
    return database.open_engine(url, LEDGER)
