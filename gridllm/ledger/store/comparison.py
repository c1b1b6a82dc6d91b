"""Rows of a table against what they must be: exactly the same values, of exactly the same types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Column, Connection, LargeBinary, String, Table, bindparam, select, tuple_, type_coerce
from sqlalchemy.types import NullType

from gridllm.errors import LedgerError

AT_ONCE: Final = 1024  # rows fetched

Row = tuple[Any, ...]


def read_rows(connection: Connection, table: Table) -> Iterator[Row]:
    """All rows of ``table`` in the order of its key, as the database's driver gives them; a page at a time.

    SQLite keeps a value of any type in any column, so that types are looked at, too.

    Raises:
        LedgerError: a value is of another type than its column, or a row stands out of order.
    """
    key = list(table.primary_key)
    columns = [type_coerce(column, NullType()).label(column.name) for column in table.columns]  # no conversions
    page = select(*columns).order_by(*key).limit(AT_ONCE)
    following = page.where(tuple_(*key) > tuple_(*(bindparam(column.name, type_=column.type) for column in key)))
    sound: set[tuple[type, ...]] = set()
    last: Row = ()
    while True:
        after = {column.name: value for column, value in zip(key, last, strict=False)}
        rows = [tuple(row) for row in connection.execute(following if last else page, after)]
        for row in rows:
            types = tuple(map(type, row))
            if types not in sound:
                _check_types(table, row)
                sound.add(types)
            if row[: len(key)] <= last[: len(key)]:
                raise wrong_row(table, row, "it stands out of order")
            last = row
            yield row
        if len(rows) < AT_ONCE:
            return


def compare(table: Table, found: Iterable[Row], wanted: Iterable[Row]) -> None:
    """Both in the order of the table's key.

    Raises:
        LedgerError: names the first row that differs, and how.
    """
    keys = len(table.primary_key)
    held, due = iter(found), iter(wanted)
    while True:
        row, must = next(held, None), next(due, None)
        if row == must:
            if row is None:
                return
            continue
        if must is None or (row is not None and row[:keys] < must[:keys]):
            raise wrong_row(table, row or (), "the logs tell of no such row")
        if row is None or row[:keys] > must[:keys]:
            raise wrong_row(table, must, "the row is missing")
        name, is_there, must_be = next(
            (column.name, a, b) for column, a, b in zip(table.columns, row, must, strict=True) if a != b
        )
        raise wrong_row(table, row, f"{name} is {_spell(is_there)}, the logs say {_spell(must_be)}")


def wrong_row(table: Table, row: Row, what: str) -> LedgerError:
    """The error that names a row by its key, and by the names in it that people know."""
    named = [
        f"{column.name} {_spell(value)}"
        for column, value in zip(table.columns, row, strict=False)
        if column.primary_key or column.name in ("key", "keeper", "digest")
    ]
    return LedgerError(f"The ledger's database is damaged: table {table.name}, row of {', '.join(named)}: {what}.")


def _check_types(table: Table, row: Row) -> None:
    for column, value in zip(table.columns, row, strict=True):
        if not (value is None and column.nullable) and type(value) is not _type_of(column):
            raise wrong_row(table, row, f"{column.name} holds a value of type {type(value).__name__}")


def _type_of(column: Column[Any]) -> type:
    if isinstance(column.type, LargeBinary):
        return bytes
    return str if isinstance(column.type, String) else int


def _spell(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 64 else f"{text[:64]}…"
