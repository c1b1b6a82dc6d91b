"""Opens the leaderboard's database; its transactions are those of ``gridllm.database.engine``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect, select

from gridllm.database import engine as database
from gridllm.database.migrate import migrate
from gridllm.database.purpose import Purpose
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.store.schema import metadata

MIGRATIONS: Final = Path(__file__).parent / "migrations"

LEADERBOARD: Final = Purpose(
    name="leaderboard",
    error=LeaderboardError,
    losing="submissions and grades that it has acknowledged",
    mend="put back its newest copy: gridllm leaderboard restore",
    version_table="leaderboard_version",
    lock=int.from_bytes(b"leaders"),  # PostgreSQL's locks of this kind are numbers
    one_writer=True,  # what a batch has read holds until it has written
)


def holds_rows(url: str) -> bool:
    """Whether a leaderboard is in that database already; writes nothing, and makes no file.

    Raises:
        LeaderboardError: the URL is wrong, or the database cannot be used.
    """
    file = database.file_of(url, LEADERBOARD)
    if file is not None and not file.exists():
        if not os.access(file.parent, os.W_OK):
            raise LeaderboardError(f"The folder {file.parent} is not there, or cannot be written.")
        return False
    engine = database.open_engine(url, LEADERBOARD)
    try:
        with database.reading(engine) as connection:
            known = set(inspect(connection).get_table_names())
            tables = [table for name, table in metadata.tables.items() if name in known]
            keys = (select(*table.primary_key).limit(1) for table in tables)
            return any(connection.execute(query).first() is not None for query in keys)
    finally:
        engine.dispose()


def open_engine(url: str, migrations: Path = MIGRATIONS) -> Engine:
    """Open ``sqlite:////absolute/path`` or ``postgresql+psycopg://user@host/database``, with this version's tables.

    Raises:
        LeaderboardError: the URL is wrong, its driver is missing, the database cannot be used, is damaged, or a newer
            GridLLM wrote it; says no password.
    """
    engine = database.open_engine(url, LEADERBOARD)
    try:
        migrate(engine, migrations)
    except BaseException:
        engine.dispose()
        raise
    return engine
