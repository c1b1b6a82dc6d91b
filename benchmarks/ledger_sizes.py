"""What a keeper's books take on disk: by table and index, and by kind of statement."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any, Final

from sqlalchemy import Engine, text

from gridllm.database.engine import reading

SAMPLE: Final = 200  # pages of statements, spread over the log
PAGE: Final = 128  # statements that are compressed together, as a file system does with blocks of some 128 KiB

SQLITE_SIZES: Final = text("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")
SQLITE_TABLES: Final = text("SELECT name, tbl_name FROM sqlite_master")
POSTGRESQL_SIZES: Final = text(
    "SELECT relname, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables ORDER BY relname"
)


def sizes(engine: Engine) -> dict[str, Any]:
    """Bytes of each table and of its indexes, how many statements of each kind there are, and their own bytes."""
    with reading(engine) as connection:
        count = int(connection.execute(text("SELECT count(*) FROM entries")).scalar_one())
        own = int(connection.execute(text("SELECT sum(length(raw)) FROM entries")).scalar_one())
        last = int(connection.execute(text("SELECT max(number) FROM entries")).scalar_one())
        kinds, bytes_of, plain, packed = Counter[str](), Counter[str](), 0, 0
        for first in range(1, last, max(1, last // SAMPLE)):
            page = connection.execute(
                text("SELECT raw FROM entries WHERE number >= :first ORDER BY number LIMIT :page"),
                {"first": first, "page": PAGE},
            )
            raws = [bytes(raw) for raw in page.scalars()]
            plain, packed = plain + sum(map(len, raws)), packed + len(zlib.compress(b"".join(raws), 3))
            for raw in raws:
                kind = json.loads(raw)["payloadType"].rpartition(".")[2].partition("+")[0]
                kinds[kind] += 1
                bytes_of[kind] += len(raw)
        return {
            "statements": count,
            "statement_bytes": own,
            "compressed": packed / plain,
            "kinds": {kind: {"share": n / kinds.total(), "bytes": bytes_of[kind] / n} for kind, n in kinds.items()},
            "tables": _tables(engine, connection),
        }


def _tables(engine: Engine, connection: Any) -> dict[str, dict[str, int]]:
    if engine.dialect.name == "postgresql":
        rows = connection.execute(POSTGRESQL_SIZES)
        return {name: {"table": int(table), "indexes": int(indexes)} for name, table, indexes in rows}
    found: dict[str, dict[str, int]] = {}
    owner = dict(tuple(row) for row in connection.execute(SQLITE_TABLES))
    for name, nbytes in connection.execute(SQLITE_SIZES):
        table = owner.get(name, name)
        part = "table" if table == name else "indexes"
        found.setdefault(table, {"table": 0, "indexes": 0})[part] += int(nbytes)
    return found
