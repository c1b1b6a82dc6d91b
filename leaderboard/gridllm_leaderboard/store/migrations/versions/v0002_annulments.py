"""Rounds may end without a verdict."""

from __future__ import annotations

from typing import Final

from alembic import op
from sqlalchemy import Column, LargeBinary

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add the column; rounds of before have none."""
    op.add_column("rounds", Column("annulment", LargeBinary))
