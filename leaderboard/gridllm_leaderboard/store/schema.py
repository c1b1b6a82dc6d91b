"""The tables of the leaderboard's database, as the newest migration leaves them.

Envelopes (``raw``, ``lock``, ``draw``, ``verdict``, ``annulment``, ``withdrawal``) are the truth; the columns beside
them that can be told from them are there so that questions find an index, and ``integrity`` derives them again and
compares.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, MetaData, String, Table, Text

metadata: Final = MetaData(
    naming_convention={  # names that both databases and every migration agree on
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _number(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, BigInteger, primary_key=key, autoincrement=False, nullable=False)


def _hex(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, String(64), primary_key=key, nullable=False)


submissions: Final = Table(
    "submissions",
    metadata,
    _number("number", key=True),  # 1, 2, 3 … in the order in which they were taken
    _hex("id"),  # statements.id_of the document
    Column("raw", LargeBinary, nullable=False),
    _hex("account"),  # the next four: as the document says them
    _hex("root"),
    _hex("weights"),
    Column("folded", String(128), nullable=False),  # its name, case-folded
    _number("entered"),  # Unix time, seconds
    Column("state", String(16), nullable=False),  # messages.State
    Column("why", Text, nullable=False),
    _number("round"),  # that it is graded in, or was last; 0: none
    Column("transfer", String(64)),  # id of the ledger's transfer that paid the fee; null: unpaid
    Column("withdrawal", LargeBinary),
    Column("overlaps", Text, nullable=False),  # JSON: share by task
    Index("ix_submissions_id", "id", unique=True),
    Index("ix_submissions_account_number", "account", "number"),
    Index("ix_submissions_account_entered", "account", "entered"),
    Index("ix_submissions_entered", "entered"),
    Index("ix_submissions_state_number", "state", "number"),
    Index("ix_submissions_root", "root"),
    Index("ix_submissions_weights", "weights"),
    Index("ix_submissions_folded", "folded"),
    Index("ix_submissions_transfer", "transfer", unique=True),  # any number of nulls
)

rounds: Final = Table(
    "rounds",
    metadata,
    _number("number", key=True),
    Column("lock", LargeBinary, nullable=False),
    Column("draw", LargeBinary),
    Column("verdict", LargeBinary),
    Column("marks", LargeBinary),  # msgpack: records.Mark of each submission graded; there when the verdict is
    Column("annulment", LargeBinary),  # in place of a verdict
)

grades: Final = Table(
    "grades",
    metadata,
    _number("number", key=True),  # in the order in which they came
    _hex("id"),
    _number("round"),
    _hex("submission"),
    _hex("grader"),
    Column("kind", String(8), nullable=False),  # grade or failure
    Column("raw", LargeBinary, nullable=False),
    Index("ix_grades_id", "id", unique=True),
    Index("ix_grades_round_submission_grader", "round", "submission", "grader", unique=True),
)

reigns: Final = Table(
    "reigns",
    metadata,
    _number("round", key=True),
    _hex("submission"),
    _number("since"),
    *(Column(name, Float(53), nullable=False) for name in ("score", "low", "high")),
    *(Column(name, Float(53)) for name in ("lead", "lead_low", "lead_high")),  # null: it followed nobody
    _number("bounty"),
)

lines: Final = Table(
    "lines",
    metadata,
    _hex("root", key=True),  # results.items_root or results_root
    _number("size"),  # bytes
    Column("data", LargeBinary, nullable=False),  # JSON lines, zlib
)

spent: Final = Table(
    "spent",
    metadata,
    Column("task", String(40), primary_key=True),
    Column("item", LargeBinary(32), primary_key=True),  # results.digest_of, of a pool's item that a round used
)

settings: Final = Table(
    "settings",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
)
