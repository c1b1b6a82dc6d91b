"""What a database is for: how its troubles are named, and what is to be done about them."""

from __future__ import annotations

from dataclasses import dataclass

from gridllm.errors import GridError


@dataclass(frozen=True, slots=True)
class Purpose:
    """One kind of database."""

    name: str  # "ledger": of whatever is kept in it, and of its file
    error: type[GridError]  # of all that goes wrong with it
    losing: str  # what a server that does not flush would lose
    mend: str  # what to do where the file is damaged
    version_table: str  # Alembic's; one PostgreSQL database may serve several purposes
    lock: int  # PostgreSQL's advisory lock of those who migrate
    one_writer: bool = False  # on PostgreSQL, too, a transaction that writes waits for the one before it

    @property
    def forms(self) -> str:
        """How its URL is written."""
        return f"sqlite:////path/to/{self.name}.db or postgresql+psycopg://user:password@host/database"
