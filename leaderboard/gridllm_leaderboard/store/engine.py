"""Opens the leaderboard's database; its transactions are those of ``gridllm.database.engine``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from gridllm.database import engine as database
from gridllm.database.migrate import migrate
from gridllm.database.purpose import Purpose
from gridllm.errors import LeaderboardError

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
