"""The books: logs and their entries, and what follows from them."""

from __future__ import annotations

from typing import Any, Final

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, PrimaryKeyConstraint, String, UniqueConstraint, text

revision: Final = "0002"
down_revision: Final = "0001"

NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _logs_and_entries()
    _accounts_and_tabs()
    op.create_table(
        "once",
        Column("subject", LargeBinary(32), nullable=False),
        Column("kind", String(16), nullable=False),
        PrimaryKeyConstraint("subject", "kind", name="pk_once"),
    )
    op.create_table(
        "gifts",
        *_amounts("account", "day", "micro"),
        PrimaryKeyConstraint("account", "day", name="pk_gifts"),
    )
    op.create_table("evidence", _number(), _bytes("raw"), _bytes("seal", 8), _key("evidence"))


def _logs_and_entries() -> None:
    op.create_table(
        "logs",
        _number(),
        Column("keeper", String(64), nullable=False),
        *_amounts("size"),
        Column("head", LargeBinary),
        _bytes("seal", 8),
        _key("logs"),
        UniqueConstraint("keeper", name="uq_logs_keeper"),
    )
    op.create_table(
        "entries",
        _number(),
        *_amounts("log", "place"),
        Column("payer", BigInteger),
        *_amounts("payee", "at"),
        _bytes("raw"),
        _bytes("seal", 8),
        _key("entries"),
    )
    op.create_index("ix_entries_log_place", "entries", ["log", "place"], unique=True)
    op.create_index("ix_entries_payer_number", "entries", ["payer", "number"])
    op.create_index("ix_entries_payee_number", "entries", ["payee", "number"])
    op.create_table(
        "tiles",
        *_amounts("log", "level", "place"),
        _bytes("hashes"),
        PrimaryKeyConstraint("log", "level", "place", name="pk_tiles"),
    )


def _accounts_and_tabs() -> None:
    op.create_table(
        "accounts",
        _number(),
        Column("key", String(64), nullable=False),
        *_amounts("granted", "earned", "spent", "received", "sent"),
        _key("accounts"),
        UniqueConstraint("key", name="uq_accounts_key"),
    )
    op.create_table(
        "tabs",
        _number(),
        _bytes("digest", 32),
        *_amounts("payer", "escrow", "gift", "expires", "claimed", "prefill", "decode", "released", "held"),
        _key("tabs"),
        UniqueConstraint("digest", name="uq_tabs_digest"),
    )
    held = text("held > 0")
    op.create_index("ix_tabs_held", "tabs", ["payer", "expires", "held"], sqlite_where=held, postgresql_where=held)


def _number() -> Column[Any]:
    return Column("number", NUMBER, autoincrement=False, nullable=False)


def _key(table: str) -> PrimaryKeyConstraint:
    return PrimaryKeyConstraint("number", name=f"pk_{table}")


def _amounts(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger, autoincrement=False, nullable=False) for name in names]


def _bytes(name: str, length: int | None = None) -> Column[Any]:
    return Column(name, LargeBinary(length), nullable=False)
