"""The tables of the ledger's database, as the newest migration leaves them.

What the keepers' logs hold stands in ``entries``; all the other tables but ``evidence`` and the heads follow from it,
and are kept so that no question needs more than a few rows. ``store.check`` makes them again and compares.
Amounts are micro-credits; rows have small numbers, in the order in which a statement first named them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, text

metadata: Final = MetaData(
    naming_convention={  # names that both databases and every migration agree on
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's own row numbers are called INTEGER

FILL_PERCENT: Final = 80  # of a page of PostgreSQL by new rows; the rest is for new versions of them


def _number(name: str) -> Column[Any]:
    return Column(name, NUMBER, primary_key=True, autoincrement=False)


def _amount(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False)


logs: Final = Table(
    "logs",
    metadata,
    _number("number"),
    Column("keeper", String(64), nullable=False, unique=True),  # hex key
    _amount("size"),  # entries held here
    Column("head", LargeBinary),  # the newest signed one (log.heads), with the cosignatures seen so far
    Column("seal", LargeBinary(8), nullable=False),  # seals.seal of what no statement tells
)

entries: Final = Table(
    "entries",
    metadata,
    _number("number"),  # 1, 2, 3 … over all logs, in the order in which they came to this database
    Column("log", BigInteger, nullable=False),  # logs.number
    Column("place", BigInteger, nullable=False),  # in that log, from 0
    Column("payer", BigInteger),  # accounts.number; none for what only gives
    Column("payee", BigInteger, nullable=False),  # or who is granted credit, or enrolled
    _amount("at"),  # Unix time it was accepted or mirrored; never falls
    Column("raw", LargeBinary, nullable=False),  # the envelope: the log's leaf
    Column("seal", LargeBinary(8), nullable=False),  # seals.seal of the row
    Index("ix_entries_log_place", "log", "place", unique=True),
    Index("ix_entries_payer_number", "payer", "number"),
    Index("ix_entries_payee_number", "payee", "number"),
)

tiles: Final = Table(
    "tiles",
    metadata,
    Column("log", BigInteger, primary_key=True, autoincrement=False),  # logs.number
    Column("level", BigInteger, primary_key=True, autoincrement=False),  # see log.tiles
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

accounts: Final = Table(
    "accounts",
    metadata,
    _number("number"),
    Column("key", String(64), nullable=False, unique=True),  # hex
    _amount("granted"),  # as in fold.Account
    _amount("earned"),
    _amount("spent"),
    _amount("received"),
    _amount("sent"),
    postgresql_with={"fillfactor": FILL_PERCENT},
)

tabs: Final = Table(
    "tabs",
    metadata,
    _number("number"),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # statements.TabKey.digest
    Column("payer", BigInteger, nullable=False),  # accounts.number
    _amount("escrow"),  # as in fold.Tab
    _amount("gift"),
    _amount("expires"),
    _amount("claimed"),
    _amount("prefill"),
    _amount("decode"),
    _amount("released"),  # 0 or 1
    _amount("held"),  # set aside until ``expires`` and not paid; 0 once released
    # An account may have a hundred thousand old tabs; those that are released or expired are in nobody's way. No column
    # here changes with a voucher: so that PostgreSQL writes the row's new version alone, into the same page.
    Index("ix_tabs_open", "payer", "expires", sqlite_where=text("released = 0"), postgresql_where=text("released = 0")),
    postgresql_with={"fillfactor": FILL_PERCENT},
)

once: Final = Table(
    "once",
    metadata,
    Column("subject", LargeBinary(32), primary_key=True),  # as fold.Books.first has them
    Column("kind", String(16), primary_key=True),
)

gifts: Final = Table(
    "gifts",
    metadata,
    Column("account", BigInteger, primary_key=True, autoincrement=False),  # accounts.number
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # since 1970, UTC
    _amount("micro"),  # of the newcomers' allowance
)

evidence: Final = Table(
    "evidence",
    metadata,
    _number("number"),
    Column("raw", LargeBinary, nullable=False),  # against a keeper that told two histories (log.evidence)
    Column("seal", LargeBinary(8), nullable=False),
)
