"""The store, off the event loop: one thread writes, two read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.store import LeaderboardStore
    from gridllm_leaderboard.store.view import View

READERS: Final = 2

T = TypeVar("T")


class Books:
    """Transactions of the leaderboard's store."""

    def __init__(self, store: LeaderboardStore) -> None:
        """``store``: whoever opened it closes it, after ``close``."""
        self._store = store
        self._writing = ThreadPoolExecutor(1, "gridllm-leaderboard-write")
        self._reading = ThreadPoolExecutor(READERS, "gridllm-leaderboard-read")

    async def read(self, work: Callable[[View], T]) -> T:
        """One view's questions. Raises LeaderboardError: the store cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, work)

    async def write(self, work: Callable[[Batch], T]) -> T:
        """One transaction, on disk afterwards; what ``work`` raises undoes it.

        Raises:
            LeaderboardError: the store cannot be written.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._write, work)

    async def close(self) -> None:
        """Let what is under way end."""
        for pool in (self._writing, self._reading):
            await asyncio.to_thread(pool.shutdown)

    def _read(self, work: Callable[[View], T]) -> T:
        with self._store.reading() as view:
            return work(view)

    def _write(self, work: Callable[[Batch], T]) -> T:
        with self._store.writing() as batch:
            return work(batch)
