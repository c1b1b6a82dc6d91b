"""Which model a node serves that follows the leaderboard: the champion; before there is one, the grid's first model."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.errors import GridError
from gridllm.node.enrolment import Membership
from gridllm.node.standing import retry_pause_s
from gridllm.node.surroundings import Surroundings
from gridllm.node.tenancy import Tenancy
from gridllm.node.wishes import Wishes
from gridllm.tasks import racing

log = logging.getLogger(__name__)

T = TypeVar("T")

Settle = Callable[[ModelEntry], tuple[Membership, Wishes]]
"""What a volunteer who follows the champion asks for where it is that model. Raises UsageError, ModelError."""


class Following:
    """One node's; lives on the event loop."""

    def __init__(
        self,
        signed: SignedCharter,
        board: NoticeBoard,
        settle: Settle,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settle = settle
        self._catalogue = Catalogue(signed, board)
        self._clock = clock
        self._news = asyncio.Event()
        self._setbacks: dict[str, tuple[int, float]] = {}  # root → failures in a row, when to try again
        board.listen(self._news.set)

    @property
    def entry(self) -> ModelEntry:
        """The model to serve now."""
        return self._catalogue.champion or self._catalogue.model()

    @property
    def crowned(self) -> bool:
        """Whether there is a champion, as far as is known here."""
        return self._catalogue.champion is not None

    async def next_after(self, entry: ModelEntry) -> ModelEntry:
        """Wait until another model than ``entry`` is to be served."""
        while True:
            self._news.clear()
            wanted = self.entry
            wait_s = self._setbacks.get(wanted.root, (0, 0.0))[1] - self._clock()
            if wanted.root != entry.root and wait_s <= 0:
                return wanted
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if wanted.root != entry.root else None):
                    await self._news.wait()

    async def unless_overtaken(self, work: Awaitable[T], entry: ModelEntry, surroundings: Surroundings) -> T | Tenancy:
        """The result of ``work``, unless another model than ``entry`` is to be served first: then it is cancelled, and
        that one's tenancy comes."""
        async with racing(work, self._heir_after(entry, surroundings)) as (working, coming):
            return working.result() if working.done() else coming.result()

    async def _heir_after(self, entry: ModelEntry, surroundings: Surroundings) -> Tenancy:
        while True:
            wanted = await self.next_after(entry)
            try:
                return Tenancy(*self.settle(wanted), surroundings)
            except GridError as error:
                log.info("%s cannot be served here: %s", wanted.name, error)
                self.put_off(wanted)

    def put_off(self, entry: ModelEntry) -> float:
        """That model cannot be served now: seconds until it is tried again, longer each time."""
        failures = self._setbacks.get(entry.root, (0, 0.0))[0] + 1
        pause_s = retry_pause_s(failures, 0.0, random.random())  # noqa: S311 - spreads load
        self._setbacks[entry.root] = failures, self._clock() + pause_s
        return pause_s

    def settled(self, entry: ModelEntry) -> None:
        """That model is served."""
        self._setbacks.pop(entry.root, None)
