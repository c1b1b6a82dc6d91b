"""A transaction that writes: all that a view can be asked, all that happens to submissions and in rounds."""

from __future__ import annotations

from gridllm.database.upsert import upsert
from gridllm_leaderboard.store.intake import Intake
from gridllm_leaderboard.store.proceedings import Proceedings
from gridllm_leaderboard.store.schema import settings


class Batch(Intake, Proceedings):
    """What is written stands when the transaction ends.

    Methods that take a document return False, and change nothing, when that very document is here already.
    """

    def keep(self, key: str, value: str) -> None:
        """Keep a value of the leaderboard's own, such as how far it has read the ledger; replaces what was there."""
        upsert(self._connection, settings, [{"key": key, "value": value}])
