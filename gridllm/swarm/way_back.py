"""The way back into a network of which nobody answered, through the members that are known from the start.

hivemind forgets whoever does not answer within two seconds. When the machine or its line stood still for so long, all
are forgotten at once, and a grid of any size would look empty until the next maintenance.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from gridllm.errors import SwarmError, Unreachable
from gridllm.ids import PeerId
from gridllm.swarm.first_peers import Connect, reach_any

PAUSE_S: Final = 5.0  # between tries of those who read: where nobody is, they are told so without waiting each time

T = TypeVar("T")


class WayBack:
    """One participant's."""

    def __init__(
        self,
        first: Sequence[tuple[PeerId, str]],
        connect: Connect,
        greet: Callable[[PeerId], Awaitable[None]],
        lonely: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            first: members that are known from the start, each with an address.
            greet: makes us known to a member; may raise SwarmError.
            lonely: whether no member is known at present.
        """
        self._first, self._connect, self._greet, self._lonely, self._clock = first, connect, greet, lonely, clock
        self._tried_at = float("-inf")
        self._trying = asyncio.Lock()

    async def read(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` reads from the members; once more, when none answered and some could be found again.

        Raises:
            Unreachable: as ``work`` does.
        """
        if self._lonely():
            await self._find_soon()
        try:
            return await work()
        except Unreachable:
            if not await self._find_soon():
                raise
        return await work()

    async def find(self) -> None:
        """Connect to the first peers, and greet those that answer."""
        try:
            for peer in await reach_any(self._connect, self._first):
                await self._greet(peer)
        except SwarmError:
            return  # whoever reads will say that nobody answers
        finally:
            self._tried_at = self._clock()
        await asyncio.sleep(0)  # hivemind notes who answered in a task of its own

    async def _find_soon(self) -> bool:
        """Unless that was tried just now, by another reader for instance; whether a member is known."""
        async with self._trying:
            if self._first and self._clock() - self._tried_at >= PAUSE_S:
                await self.find()
        return not self._lonely()
