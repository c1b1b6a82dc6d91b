"""Pages of rows, each from an index: no page costs more for what lies before it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, select, union_all

from gridllm.ledger.fold import Account
from gridllm.ledger.messages import HistoryRow
from gridllm.ledger.store.schema import accounts, entries, logs


def account_page(connection: Connection, after: str, limit: int) -> list[tuple[str, Account]]:
    """``limit`` accounts whose keys come after ``after``."""
    sums = accounts.c.granted, accounts.c.earned, accounts.c.spent, accounts.c.received, accounts.c.sent
    page = select(accounts.c.key, *sums).where(accounts.c.key > after).order_by(accounts.c.key).limit(limit)
    return [(key, Account(*values)) for key, *values in connection.execute(page)]


def entry_page(connection: Connection, log: str, first: int, limit: int, max_bytes: int) -> list[bytes]:
    """See ``LedgerStore.entries``."""
    page = (
        select(entries.c.raw)
        .join(logs, logs.c.number == entries.c.log)
        .where(logs.c.keeper == log, entries.c.place >= first, entries.c.place < first + limit)
        .order_by(entries.c.place)
    )
    raws: list[bytes] = []
    total = 0
    for raw in connection.execute(page).scalars():
        total += len(raw)
        if raws and total > max_bytes:
            break
        raws.append(bytes(raw))
    return raws


def history_page(connection: Connection, account: str, since: int, before: int | None, limit: int) -> list[HistoryRow]:
    """See ``LedgerStore.history``."""
    number = connection.execute(select(accounts.c.number).where(accounts.c.key == account)).scalar()
    if number is None:
        return []
    # No statement names one account twice, so the two halves share no row.
    halves = union_all(
        *(_newest(column, number, before, limit) for column in (entries.c.payer, entries.c.payee))
    ).subquery()
    page = (
        select(entries.c.number, logs.c.keeper, entries.c.place, entries.c.at, entries.c.raw)
        .join(halves, halves.c.number == entries.c.number)
        .join(logs, logs.c.number == entries.c.log)
        .order_by(entries.c.number.desc())
        .limit(limit)
    )
    rows = [HistoryRow(cursor, log, place, at, bytes(raw)) for cursor, log, place, at, raw in connection.execute(page)]
    return [row for row in rows if row.at >= since]  # times never fall: none after the first older one is newer


def _newest(party: Any, number: int, before: int | None, limit: int) -> Select[Any]:
    page = select(entries.c.number).where(party == number)
    if before is not None:
        page = page.where(entries.c.number < before)
    return select(page.order_by(entries.c.number.desc()).limit(limit).subquery().c.number)
