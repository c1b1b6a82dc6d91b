"""``check`` finds whatever is altered in a database, and names the row. ``tests/swarm`` runs it on PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, LargeBinary, String, Table, delete, select, update

from gridllm.database.engine import writing
from gridllm.errors import LedgerError
from gridllm.ledger.log.heads import Head, sign_head
from gridllm.ledger.paper import Entry
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.schema import entries, evidence, logs, metadata
from gridllm.ledger.store.seals import seal
from gridllm.ledger.store.store import LedgerStore
from tests.charters import MAINTAINERS
from tests.ledger_stores import append_all, dump, store_of
from tests.ledgers import NOW, Scribe, hex_of, homed, rulebook, traffic

SCRIBE = Scribe()
RULES = rulebook(SCRIBE.signed)
OWN, OTHER = MAINTAINERS[0], MAINTAINERS[1]
COLUMNS = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(made)
    yield made
    made.dispose()


@cache
def statements() -> tuple[list[Entry], list[Entry]]:
    """For each log."""
    own, other = (list(traffic(SCRIBE.signed, hex_of(one), 280, payers=4, nodes=3, at_once=4)) for one in (OWN, OTHER))
    payer, node = homed(SCRIBE.signed, hex_of(OWN)), homed(SCRIBE.signed, hex_of(OTHER))
    own.insert(100, SCRIBE.escrow(payer, node, 10**6, gift=True))
    return own, other


@pytest.fixture
def store(engine: Engine) -> LedgerStore:
    """Two logs with all there is: gifts, heads (one of them of fewer entries than there are now), evidence."""
    filled = store_of(engine)
    own, other = statements()
    append_all(filled, hex_of(OWN), own[:200], at_once=50)
    with filled.write(hex_of(OTHER), NOW + 1) as batch:
        batch.mirror([*other, other[-1]])
    save_head(filled, OWN)
    append_all(filled, hex_of(OWN), own[200:], at_once=50, now=NOW + 2)
    save_head(filled, OTHER)
    filled.save_evidence(b"evidence")
    return filled


def save_head(store: LedgerStore, keeper: Any, **changes: Any) -> None:
    size = store.sizes()[hex_of(keeper)]
    root = store.root(hex_of(keeper), size).hex()
    fields = {"grid": SCRIBE.signed.grid, "keeper": hex_of(keeper), "size": size, "root": root, "issued": NOW}
    store.save_head(hex_of(keeper), sign_head(Head(**fields | changes), keeper))


def other_value(column: Column[Any], value: Any, rng: random.Random) -> Any:
    """Differs in one byte at most."""
    if isinstance(column.type, LargeBinary):
        at = rng.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
    if isinstance(column.type, String):
        at = rng.randrange(len(value))
        return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
    return value ^ 1024  # beyond the keys in use


def alter(engine: Engine, table: Table, column: str, rng: random.Random) -> None:
    """Put another value into one row, of those that have one."""
    with writing(engine) as connection:
        rows = connection.execute(select(table).where(table.c[column].is_not(None))).mappings().all()
        row = rng.choice(rows)
        value = other_value(table.c[column], row[column], rng)
        this = [key == row[key.name] for key in table.primary_key]
        done = connection.execute(update(table).where(*this).values({column: value}))
        assert done.rowcount == 1


def test_a_sound_database_passes_and_progress_is_told(store: LedgerStore) -> None:
    told: list[tuple[int, int]] = []
    store.check(RULES, lambda done, total: told.append((done, total)))
    assert told[-1] == (562, 562)
    assert all(dump(store._engine).values())  # no table was checked for being empty


def test_an_empty_database_passes(engine: Engine) -> None:
    store_of(engine).check(RULES)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_one_altered_byte_in_any_column_is_named(store: LedgerStore, table: str, column: str) -> None:
    alter(store._engine, metadata.tables[table], column, random.Random(f"{table}.{column}"))
    with pytest.raises(LedgerError, match=f"table {table}\\b"):
        store.check(RULES)


@pytest.mark.parametrize("table", [table.name for table in metadata.sorted_tables if table is not evidence])
def test_a_missing_row_is_named(store: LedgerStore, table: str) -> None:
    gone = metadata.tables[table]
    with writing(store._engine) as connection:
        rows = connection.execute(select(gone)).mappings().all()
        row = rows[len(rows) // 2]
        connection.execute(delete(gone).where(*(key == row[key.name] for key in gone.primary_key)))
    with pytest.raises(LedgerError, match="table entries" if table == "logs" else f"table {table}\\b"):
        store.check(RULES)


@pytest.mark.parametrize("table", ["accounts", "tabs", "once", "gifts", "tiles"])
def test_an_invented_row_is_named(store: LedgerStore, table: str) -> None:
    more = metadata.tables[table]
    with writing(store._engine) as connection:
        row = dict(connection.execute(select(more)).mappings().all()[-1])
        for name in ("number", "key", "digest", "subject", "day", "place"):
            if name in row:
                row[name] = other_value(more.c[name], row[name], random.Random(5)) if name != "number" else 999
        connection.execute(more.insert(), row)
    with pytest.raises(LedgerError, match=f"table {table}\\b.*the logs tell of no such row"):
        store.check(RULES)


def forge(engine: Engine, number: int) -> None:
    """One byte of what an entry says is another, and the row's seal says so, too."""
    with writing(engine) as connection:
        row = connection.execute(select(entries).where(entries.c.number == number)).mappings().one()
        raw = row["raw"]
        values = dict(row) | {"raw": raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]}
        values["seal"] = seal(*list(values.values())[:-1])
        connection.execute(update(entries).where(entries.c.number == number).values(values))


def test_who_knows_the_seals_still_cannot_forge(store: LedgerStore) -> None:
    forge(store._engine, 77)
    with pytest.raises(LedgerError, match="table entries, row of number 77: "):
        store.check(RULES)


def test_a_tab_is_named_with_what_it_says_and_should(store: LedgerStore) -> None:
    tabs = metadata.tables["tabs"]
    with writing(store._engine) as connection:
        claimed = connection.execute(select(tabs.c.claimed).where(tabs.c.number == 3)).scalar_one()
        connection.execute(update(tabs).where(tabs.c.number == 3).values(claimed=claimed + 5))
    with pytest.raises(LedgerError, match=f"number 3, .*: claimed is {claimed + 5}, the logs say {claimed}"):
        store.check(RULES)


def test_a_log_that_lost_what_its_head_promised_is_found(engine: Engine) -> None:
    """All tables agree with each other; the signed head does not."""
    coming = list(traffic(SCRIBE.signed, hex_of(OWN), 40, payers=4, nodes=3, at_once=4))
    shorter = store_of(engine)
    append_all(shorter, hex_of(OWN), coming[:39])
    root = shorter.root(hex_of(OWN), 39).hex()
    save_head(shorter, OWN, size=40, root=root)
    with pytest.raises(LedgerError, match="table logs.*its head is of 40 entries, and there are 39"):
        shorter.check(RULES)
    save_head(shorter, OWN, size=38, root=root)
    with pytest.raises(LedgerError, match="table logs.*its head of 38 entries has another root"):
        shorter.check(RULES)
    with writing(engine) as connection:
        raw = sign_head(Head(grid=SCRIBE.signed.grid, keeper=hex_of(OTHER), size=39, root=root, issued=NOW), OTHER)
        connection.execute(update(logs).values(head=raw, seal=seal(1, hex_of(OWN), raw)))
    with pytest.raises(LedgerError, match="table logs.*its head is of the log of"):
        shorter.check(RULES)


def test_entries_of_another_homes_accounts_are_found(engine: Engine) -> None:
    coming = list(traffic(SCRIBE.signed, hex_of(OWN), 40, payers=4, nodes=3, at_once=4))
    strayed = store_of(engine)
    append_all(strayed, hex_of(OTHER), coming)
    with pytest.raises(LedgerError, match="table entries, row of number 8: Only .* lets the account"):
        strayed.check(RULES)
