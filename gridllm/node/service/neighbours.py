"""Links this node opened to the nodes it pushes to; one per neighbour, shared by all sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gridllm.errors import GridError, NextHopLost, PeerLost
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Hop

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
MAX_NEIGHBOURS: Final = 256
IDLE_S: Final = 60.0  # a link that no session uses is closed after this long

OnMessage = Callable[[Link, AnyMessage, bytearray], None]


class Neighbours:
    """Opens links on demand and reports the lost ones."""

    def __init__(
        self, swarm: Swarm, tasks: asyncio.TaskGroup, on_message: OnMessage, on_lost: Callable[[Link, str], None]
    ) -> None:
        self._swarm = swarm
        self._tasks = tasks
        self._on_message = on_message
        self._on_lost = on_lost
        self._links: dict[PeerId, asyncio.Task[Link]] = {}
        self._used_at: dict[PeerId, float] = {}

    @property
    def own(self) -> PeerId:
        """This node, whose neighbours they are."""
        return self._swarm.peer

    async def link(self, hop: Hop) -> Link:
        """The living link to ``hop``, opened if there is none.

        Raises:
            NextHopLost: the neighbour cannot be reached.
        """
        peer = PeerId(hop.peer)
        opening = self._links.get(peer)
        if opening is None and len(self._links) >= MAX_NEIGHBOURS:
            raise NextHopLost(f"This node pushes to {MAX_NEIGHBOURS} others already and takes no more; try another.")
        self._used_at[peer] = asyncio.get_running_loop().time()
        if opening is None:
            # Not in the task group: a neighbour that cannot be reached must not end the node's service.
            opening = asyncio.create_task(self._open(peer, tuple(hop.addresses)))
            opening.add_done_callback(_seen)
            self._links[peer] = opening
        try:
            return await asyncio.shield(opening)
        except GridError as error:
            self._links.pop(peer, None)
            self._used_at.pop(peer, None)
            raise NextHopLost(f"This node cannot reach {peer}, the next of the chain: {error}") from error

    async def sweep(self, used: set[PeerId], now: float) -> None:
        """Close links that none of the ``used`` neighbours needs and that were idle for ``IDLE_S``."""
        for peer in used:
            self._used_at[peer] = now
        for peer, opening in list(self._links.items()):
            settled = opening.done() and not opening.cancelled() and opening.exception() is None
            if settled and now - self._used_at.get(peer, now) > IDLE_S:
                await opening.result().close()

    async def close(self) -> None:
        """End every link."""
        for opening in list(self._links.values()):
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            else:
                opening.cancel()
        self._links.clear()

    async def _open(self, peer: PeerId, addresses: tuple[str, ...]) -> Link:
        await self._swarm.connect(peer, addresses, timeout_s=CONNECT_TIMEOUT_S)
        stream = await self._swarm.open_stream(peer, LINK_STREAM, timeout_s=CONNECT_TIMEOUT_S)
        link = Link(stream, on_message=self._on_message, opener=True)
        self._tasks.create_task(self._keep(peer, link))
        return link

    async def _keep(self, peer: PeerId, link: Link) -> None:
        try:
            await link.run()
            reason = "the link was closed"
        except (PeerLost, GridError) as error:
            reason = str(error)
        finally:
            self._links.pop(peer, None)
            self._used_at.pop(peer, None)
            await link.close()
        log.info("Link to neighbour %s ended: %s", peer, reason)
        self._on_lost(link, reason)


def _seen(opening: asyncio.Task[Link]) -> None:
    """Whoever asked for the link may be gone: its failure needs no other reader."""
    if not opening.cancelled():
        opening.exception()
