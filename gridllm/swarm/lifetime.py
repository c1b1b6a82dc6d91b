"""Nothing waits for ever: each wait ends with its own time-out, or with the presence that it depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from gridllm.errors import CallTimeout, SwarmError
from gridllm.ids import PeerId

T = TypeVar("T")

STOOD_STILL_S: Final = (
    0.1  # a time-out that comes so late: this process stood still, as it does while torch is imported
)


class Lifetime:
    """Of one swarm: it ends by ``close`` or, against its will, by ``fail``."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[SwarmError] = loop.create_future()
        """Done when the swarm is closed or failed; holds what later calls raise."""
        self._failed: asyncio.Future[SwarmError] = loop.create_future()

    @property
    def over(self) -> bool:
        """Whether the swarm is closed or failed."""
        return self.ended.done()

    def close(self) -> None:
        """End it as its user wished."""
        if not self.over:
            self.ended.set_result(SwarmError("This swarm is closed."))

    def fail(self, reason: SwarmError) -> None:
        """End it for ``reason``; ``failed`` returns."""
        if not self.over:
            self.ended.set_result(reason)
            self._failed.set_result(reason)

    async def failed(self) -> SwarmError:
        """Wait for ``fail``."""
        return await asyncio.shield(self._failed)

    async def within(
        self, timeout_s: float, peer: PeerId | None, work: Awaitable[T], *, also: Iterable[asyncio.Future[Any]] = ()
    ) -> T:
        """The result of ``work``, which is cancelled when it takes too long or this life (or one of ``also``) ends.

        Raises:
            CallTimeout: ``timeout_s`` passed; the text names ``peer``.
            SwarmError: the swarm ended.
        """
        task = asyncio.ensure_future(work)
        endings: set[asyncio.Future[Any]] = {task, self.ended, *also}
        try:
            if not self.over:
                await _first(endings, timeout_s)
            if self.over:
                raise SwarmError(str(self.ended.result()))
            if task.done():
                return task.result()
            raise CallTimeout(f"{f'Peer {peer}' if peer else 'The network'} did not answer within {timeout_s:g} s.")
        finally:
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # seen: nobody else will ask for it


async def _first(endings: set[asyncio.Future[Any]], timeout_s: float) -> None:
    """Wait for one of them; once anew where the time passed while nothing here ran: the answer may lie there unread."""
    loop = asyncio.get_running_loop()
    due = loop.time() + timeout_s
    done, _ = await asyncio.wait(endings, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if not done and loop.time() - due > STOOD_STILL_S:
        await asyncio.wait(endings, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
