"""All rows of the leaderboard's database, a page at a time: out of one, into another, perhaps of the other kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Table, delete, func, insert, select

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.store.schema import grades, lines, reigns, rounds, settings, spent, submissions

TABLES: Final[Mapping[str, Table]] = {
    table.name: table for table in (submissions, rounds, grades, reigns, lines, spent, settings)
}
LATER: Final[Mapping[str, frozenset[str]]] = {"rounds": frozenset({"annulment"})}
"""Columns that a backup by an older GridLLM lacks: empty there."""
PAGE_ROWS: Final = 1000
PAGE_BYTES: Final = 4 * 1024 * 1024  # of a page, or one row more
FETCHED: Final = 8  # rows at once from PostgreSQL: a list may have 64 MiB

Value = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of one table, by their columns' names."""

    table: str
    rows: list[dict[str, Value]]


def size_of(connection: Connection) -> int:
    """About how many bytes ``pages`` yields; to tell how far it is."""
    columns = (submissions.c.raw, grades.c.raw, lines.c.data)
    return sum(int(connection.execute(select(func.sum(func.length(one)))).scalar() or 0) for one in columns)


def pages(connection: Connection) -> Iterator[Page]:
    """Every row, each table in the order of its key."""
    for name, table in TABLES.items():
        query = select(table).order_by(*table.primary_key)
        found = connection.execute(query, execution_options={"yield_per": FETCHED})
        rows: list[dict[str, Value]] = []
        weight = 0
        for row in found.mappings():
            rows.append(dict(row))
            weight += sum(len(value) for value in row.values() if isinstance(value, bytes | str))
            if len(rows) >= PAGE_ROWS or weight >= PAGE_BYTES:
                yield Page(name, rows)
                rows, weight = [], 0
        if rows:
            yield Page(name, rows)


def fill(connection: Connection, coming: Iterable[Page], *, force: bool) -> None:
    """Write all rows; what is there already is removed first, with ``force``.

    Raises:
        LeaderboardError: something is there.
    """
    for table in TABLES.values():
        if force:
            connection.execute(delete(table))
        elif connection.execute(select(*table.primary_key).limit(1)).first() is not None:
            raise LeaderboardError(
                "The leaderboard's database is not empty; name an empty one with --database, or replace all that it "
                "holds with --force."
            )
    for page in coming:
        connection.execute(insert(TABLES[page.table]), page.rows)
