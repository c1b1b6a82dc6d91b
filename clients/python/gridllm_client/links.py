"""The process's links to nodes: one per node, shared by all sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm_client.node_link import NodeLink

CONNECT_TIMEOUT_S: Final = 3.0  # dialling a node, and opening a stream to it
IDLE_S: Final = 120.0  # a link that no session used for so long is closed when the next one is opened


class LinkPool:
    """Links by peer, opened on demand."""

    def __init__(self, swarm: Swarm, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.swarm = swarm
        self.watchers: list[Callable[[PeerId], None]] = []
        """Told of every peer whose link is lost, whether or not a session uses it at that moment."""
        self.on_notices: list[Callable[[], None]] = []
        """Called when the maintainers' notices changed, before the sessions are."""
        self._timeout_s = connect_timeout_s
        self._links: dict[PeerId, NodeLink] = {}
        self._opening: dict[PeerId, asyncio.Task[NodeLink]] = {}

    async def get(self, peer: PeerId, addresses: tuple[str, ...]) -> NodeLink:
        """The living link to ``peer``, opened if there is none.

        Raises:
            SwarmError: the node cannot be reached.
        """
        known = self.known(peer)
        if known is not None:
            return known
        opening = self._opening.get(peer)
        if opening is None:
            opening = asyncio.create_task(self._open(peer, addresses))
            self._opening[peer] = opening
            opening.add_done_callback(lambda done: self._opened(peer, done))
        return await asyncio.shield(opening)

    def known(self, peer: PeerId) -> NodeLink | None:
        """The living link to ``peer`` if there is one."""
        link = self._links.get(peer)
        return link if link is not None and link.lost is None else None

    def rtts_ms(self) -> dict[PeerId, float]:
        """Round trips measured on living links."""
        return {p: link.rtt_s * 1e3 for p, link in self._links.items() if link.lost is None and link.rtt_s is not None}

    def notices_changed(self) -> None:
        """The maintainers spoke: everyone looks again at the nodes in use."""
        for callback in self.on_notices:
            callback()
        for link in list(self._links.values()):
            link.notices_changed()

    async def delivered(self, timeout_s: float) -> None:
        """Wait for all nodes to have taken in what was sent, a moment at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(link.delivered() for link in self._links.values() if link.lost is None))

    async def close(self) -> None:
        """End all links."""
        for opening in list(self._opening.values()):
            opening.cancel()
        links, self._links = self._links, {}
        await asyncio.gather(*(link.close() for link in links.values()))

    def _opened(self, peer: PeerId, opening: asyncio.Task[NodeLink]) -> None:
        self._opening.pop(peer, None)
        if not opening.cancelled():
            opening.exception()  # whoever asked for the link may be gone: its failure needs no other reader

    def _tell(self, lost: PeerId) -> None:
        for watcher in self.watchers:
            watcher(lost)

    async def _open(self, peer: PeerId, addresses: tuple[str, ...]) -> NodeLink:
        idle = [known for known in self._links.values() if known.lost is None and known.idle_s > IDLE_S]
        for old in idle:
            del self._links[old.peer]
        try:
            link = await NodeLink.open(self.swarm, peer, addresses, timeout_s=self._timeout_s, on_end=self._tell)
            self._links[peer] = link
        finally:  # whether or not it was opened: nobody else knows of them any more
            for old in idle:
                await old.close()
        return link
