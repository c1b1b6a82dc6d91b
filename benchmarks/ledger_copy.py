"""The same books in PostgreSQL: every row of every table, as it stands in SQLite."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import BigInteger, Integer, LargeBinary, select

from gridllm.database.engine import reading
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.schema import metadata

PAGE: Final = 10_000


def copy_books(source: str, target: str) -> float:
    """From one URL to another, which is empty → seconds."""
    began = time.perf_counter()
    engine = open_engine(target)
    migrate(engine)
    engine.dispose()
    engine = open_engine(source)
    place = target.replace("postgresql+psycopg://", "postgresql://")
    with reading(engine) as connection, psycopg.connect(place) as server:
        for table in metadata.sorted_tables:
            names = [column.name for column in table.columns]
            fields = sql.SQL(", ").join(map(sql.Identifier, names))
            command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), fields)
            with server.cursor().copy(command) as copy:
                copy.set_types([_kind(column.type) for column in table.columns])
                for row in connection.execute(select(table).execution_options(yield_per=PAGE)):
                    copy.write_row(tuple(row))
    with psycopg.connect(place, autocommit=True) as server:
        server.execute("VACUUM ANALYZE")
    engine.dispose()
    return time.perf_counter() - began


def _kind(kind: Any) -> str:
    if isinstance(kind, LargeBinary):
        return "bytea"
    if isinstance(kind, BigInteger):
        return "int8"
    return "int4" if isinstance(kind, Integer) else "text"
