"""The leaderboard in its database.

Everything that belongs together is written in one transaction, and nothing is kept in memory between two: opening costs
nothing, and after ``kill -9`` the next transaction goes on from what is on disk. What is handed in twice counts once;
another document in the place of one that is there is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from gridllm.database.engine import reading, writing
from gridllm_leaderboard.store.batch import Batch
from gridllm_leaderboard.store.copying import Page, fill, pages, size_of
from gridllm_leaderboard.store.view import View


class LeaderboardStore:
    """One leaderboard's database. Its calls block; any thread may make them."""

    def __init__(self, engine: Engine) -> None:
        """``engine``: of ``store.engine.open_engine``."""
        self._engine = engine

    @contextmanager
    def writing(self) -> Iterator[Batch]:
        """A transaction that is on disk when the block ends, or, when the block raises, never was.

        One at a time: what the batch has read holds until it has written.

        Raises:
            LeaderboardError: the database cannot be written.
        """
        with writing(self._engine) as connection:
            yield Batch(connection)

    @contextmanager
    def reading(self) -> Iterator[View]:
        """One state of the leaderboard, whatever is written meanwhile.

        Raises:
            LeaderboardError: the database cannot be read.
        """
        with reading(self._engine) as connection:
            yield View(connection)

    @contextmanager
    def copied(self) -> Iterator[tuple[int, Iterator[Page]]]:
        """All rows, as of one moment, and about how many bytes they are. Raises LeaderboardError: unreadable."""
        with reading(self._engine) as connection:
            yield size_of(connection), pages(connection)

    def restore(self, coming: Iterable[Page], *, force: bool = False) -> None:
        """Write all rows of a copy, or none; with ``force`` in place of what is here.

        Raises:
            LeaderboardError: something is here, or the database cannot be written; whatever ``coming`` raises.
        """
        with writing(self._engine) as connection:
            fill(connection, coming, force=force)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
