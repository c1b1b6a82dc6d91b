"""The way into a network: those of its members whose addresses are known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from gridllm.ids import PeerId
from gridllm.tasks import end

log = logging.getLogger(__name__)

FIRST_PEERS_TIMEOUT_S: Final = 3.0
STRAGGLERS_S: Final = 0.3  # once one first peer answers, the others get this much longer


class Connect(Protocol):
    """As ``interface.Swarm.connect``."""

    def __call__(self, peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float) -> Awaitable[None]:
        """Make ``peer`` dialable and connect to it."""
        ...


async def reach_any(connect: Connect, first: Sequence[tuple[PeerId, str]]) -> list[PeerId]:
    """Connect to them all at once; returns those that answered soon.

    Args:
        first: (peer, one of its addresses).
    """

    async def reach(peer: PeerId, address: str) -> PeerId:
        await connect(peer, (address,), timeout_s=FIRST_PEERS_TIMEOUT_S)
        return peer

    pending = {asyncio.create_task(reach(peer, address)) for peer, address in first}
    reached: list[PeerId] = []
    timeout_s: float | None = None  # each ends by its own, until one has answered
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                if task.exception() is None:
                    reached.append(task.result())
                    timeout_s = STRAGGLERS_S
                else:
                    log.debug("A first peer is out of reach: %s", task.exception())
    finally:
        await end(*pending)
    return reached
