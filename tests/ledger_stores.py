"""Ledger stores for tests: emptied instead of made anew, looked at as plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Engine, delete, select

from gridllm.database.engine import reading, writing
from gridllm.ledger.fold import Ledger, apply
from gridllm.ledger.paper import Entry
from gridllm.ledger.store.schema import metadata
from gridllm.ledger.store.store import LedgerStore
from tests.ledgers import NOW, STARTER


def store_of(engine: Engine) -> LedgerStore:
    """The store as a process that has just started opens it."""
    return LedgerStore(engine, starter=STARTER)


def emptied(engine: Engine) -> LedgerStore:
    """The store without any row."""
    with writing(engine) as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
    return store_of(engine)


def dump(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, by its name."""
    with reading(engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


def fold(coming: Iterable[Entry]) -> Ledger:
    """The same in memory."""
    books = Ledger()
    for one in coming:
        apply(books, one, STARTER)
    return books


def append_all(store: LedgerStore, log: str, coming: Sequence[Entry], at_once: int = 256, now: float = NOW) -> None:
    """As a keeper would: in batches, each loaded first."""
    for start in range(0, len(coming), at_once):
        with store.write(log, now) as batch:
            some = coming[start : start + at_once]
            batch.load(some)
            for one in some:
                assert batch.append(one)
