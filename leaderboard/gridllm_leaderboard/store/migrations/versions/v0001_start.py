"""The first version: submissions, rounds, grades, reigns, lists, spent items, settings."""

from __future__ import annotations

from typing import Any, Final

from alembic import op
from sqlalchemy import BigInteger, Column, Float, LargeBinary, PrimaryKeyConstraint, String, Text

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Make the tables."""
    _submissions()
    _rounds()
    op.create_table(
        "lines",
        _hex("root"),
        _number("size"),
        Column("data", LargeBinary, nullable=False),
        PrimaryKeyConstraint("root", name="pk_lines"),
    )
    op.create_table(
        "spent",
        Column("task", String(40), nullable=False),
        Column("item", LargeBinary(32), nullable=False),
        PrimaryKeyConstraint("task", "item", name="pk_spent"),
    )
    op.create_table(
        "settings",
        Column("key", String(128), nullable=False),
        Column("value", Text, nullable=False),
        PrimaryKeyConstraint("key", name="pk_settings"),
    )


def _submissions() -> None:
    op.create_table(
        "submissions",
        _number("number"),
        _hex("id"),
        Column("raw", LargeBinary, nullable=False),
        *(_hex(name) for name in ("account", "root", "weights")),
        Column("folded", String(128), nullable=False),
        _number("entered"),
        Column("state", String(16), nullable=False),
        Column("why", Text, nullable=False),
        _number("round"),
        Column("transfer", String(64)),
        Column("withdrawal", LargeBinary),
        Column("overlaps", Text, nullable=False),
        PrimaryKeyConstraint("number", name="pk_submissions"),
    )
    for unique in ("id", "transfer"):
        op.create_index(f"ix_submissions_{unique}", "submissions", [unique], unique=True)
    for columns in ("account number", "account entered", "entered", "state number", "root", "weights", "folded"):
        op.create_index(f"ix_submissions_{columns.replace(' ', '_')}", "submissions", columns.split())


def _rounds() -> None:
    op.create_table(
        "rounds",
        _number("number"),
        Column("lock", LargeBinary, nullable=False),
        *(Column(name, LargeBinary) for name in ("draw", "verdict", "marks")),
        PrimaryKeyConstraint("number", name="pk_rounds"),
    )
    op.create_table(
        "grades",
        _number("number"),
        _hex("id"),
        _number("round"),
        _hex("submission"),
        _hex("grader"),
        Column("kind", String(8), nullable=False),
        Column("raw", LargeBinary, nullable=False),
        PrimaryKeyConstraint("number", name="pk_grades"),
    )
    op.create_index("ix_grades_id", "grades", ["id"], unique=True)
    op.create_index("ix_grades_round_submission_grader", "grades", ["round", "submission", "grader"], unique=True)
    op.create_table(
        "reigns",
        _number("round"),
        _hex("submission"),
        _number("since"),
        *(Column(name, Float(53), nullable=False) for name in ("score", "low", "high")),
        *(Column(name, Float(53)) for name in ("lead", "lead_low", "lead_high")),
        _number("bounty"),
        PrimaryKeyConstraint("round", name="pk_reigns"),
    )


def _number(name: str) -> Column[Any]:
    return Column(name, BigInteger, autoincrement=False, nullable=False)


def _hex(name: str) -> Column[Any]:
    return Column(name, String(64), nullable=False)
