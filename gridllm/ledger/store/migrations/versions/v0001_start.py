"""The first version."""

from __future__ import annotations

from typing import Final

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Nothing yet."""
