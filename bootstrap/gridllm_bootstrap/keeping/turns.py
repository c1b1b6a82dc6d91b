"""Who goes into the keeper's next transaction: escrows soon, for a person waits for them, and nobody instead of others.

Escrows have a queue of their own and at most half of a transaction; what else waits has the rest, in its order. A copy
of another keeper's log is a transaction of its own: it has its turn after one transaction of escrows at the latest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

from gridllm_bootstrap.keeping.writing import Task

MOST_TOGETHER: Final = 1024  # statements in one transaction: who comes meanwhile waits for its end

Answer = asyncio.Future[Any]


class Job(NamedTuple):
    """Something that waits, and who waits for it."""

    task: Task
    answer: Answer
    weight: int = 1
    """Statements that it is, or may become."""


class Turns:
    """What waits to be written."""

    def __init__(self) -> None:
        self.escrows_waiting = 0
        """The weight of all calls for escrows."""
        self._escrows: deque[Job] = deque()
        self._others: deque[Job] = deque()
        self._escrows_went = False  # while a copy waited

    def __bool__(self) -> bool:
        return bool(self._escrows or self._others)

    def add(self, job: Job, *, escrows: bool = False) -> None:
        """Let it wait for its turn."""
        if escrows:
            self._escrows.append(job)
            self.escrows_waiting += job.weight
        else:
            self._others.append(job)

    def take(self) -> list[Job]:
        """The next transaction's."""
        copy_waits = self._copy_waits
        if copy_waits and (self._escrows_went or not self._escrows):
            self._escrows_went = False
            return [self._others.popleft()]
        self._escrows_went = copy_waits
        jobs: list[Job] = []
        left = MOST_TOGETHER
        while self._escrows and (not jobs or left - self._escrows[0].weight >= MOST_TOGETHER // 2):
            jobs.append(self._escrows.popleft())
            left -= jobs[-1].weight
            self.escrows_waiting -= jobs[-1].weight
        while self._others and left > 0 and not self._copy_waits:
            jobs.append(self._others.popleft())
            left -= jobs[-1].weight
        return jobs

    @property
    def _copy_waits(self) -> bool:
        return bool(self._others) and self._others[0].task.log is not None
