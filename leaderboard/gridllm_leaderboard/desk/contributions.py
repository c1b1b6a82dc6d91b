"""What accounts contributed, as their keepers say: asked a few at a time, each account once, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gridllm.errors import Full, KeeperSilent

if TYPE_CHECKING:
    from gridllm.ledger.keepers import Keepers

FRESH_S: Final = 20.0
AT_ONCE: Final = 8
MOST_WAITING: Final = 256  # accounts; others are told to come again
MOST_KEPT: Final = 4096
ASK_S: Final = 12.0


class Contributions:
    """Contributions by account; micro-credits."""

    def __init__(self, keepers: Keepers, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keepers = keepers
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()  # → when, and how much
        self._asking: dict[str, asyncio.Task[int]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def of(self, account: str) -> int:
        """Earned less spent and sent; neither what was granted nor what others sent counts.

        Raises:
            Full: too many accounts are asked for already.
            KeeperSilent, Refusal: the account's home keeper does not tell.
        """
        at, known = self._known.get(account, (float("-inf"), 0))
        if self._clock() - at < FRESH_S:
            return known
        task = self._asking.get(account)
        if task is None:
            if len(self._asking) >= MOST_WAITING:
                raise Full("The leaderboard is busy with other submissions; run the same command again soon.")
            task = self._asking[account] = asyncio.create_task(self._ask(account))
            task.add_done_callback(lambda done: self._done(account, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, account: str) -> int:
        try:
            async with self._turns, asyncio.timeout(ASK_S):
                view = await self._keepers.account(account)
        except TimeoutError as error:
            raise KeeperSilent(self._keepers.home(account), f"nothing came within {ASK_S:g} s") from error
        return view.earned - view.spent - view.sent

    def _done(self, account: str, task: asyncio.Task[int]) -> None:
        self._asking.pop(account, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._known[account] = self._clock(), task.result()
        self._known.move_to_end(account)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
