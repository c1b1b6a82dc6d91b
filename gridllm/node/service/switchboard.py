"""Which of a node's models a message is for: one handler takes all links of a swarm, and hands each message on.

A node serves one model; two for a while, when it goes over from one to another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec

from gridllm.errors import GaveWay, GridError, Refusal
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.service.callers import Callers
from gridllm.node.service.replies import refused, send
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Close, Open, Pay, Resume, Step

log = logging.getLogger(__name__)

PING_CALL: Final = "gridllm.ping"
METRICS_CALL: Final = "gridllm.metrics"


class Line(Protocol):
    """The service of one model (``node.service.NodeService``)."""

    model: ModelRoot

    def holds(self, session: SessionId) -> bool:
        """Whether that session is open here."""
        ...

    def take(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        """Deal with a message; answers on ``link`` and raises nothing."""
        ...

    def orphan(self, link: Link) -> None:
        """The link ended."""
        ...

    def callers(self) -> Iterator[tuple[Link, PeerId]]:
        """Of each session the client's link, and the peer that its steps come from."""
        ...

    def metrics(self) -> dict[str, Any]:
        """What the engine did so far."""
        ...


class Switchboard:
    """One node's in one swarm. Handlers cannot be taken back from a swarm: it stays until the swarm is left."""

    def __init__(self, swarm: Swarm) -> None:
        self.links = Callers()
        self.taken: set[SessionId] = set()
        """Ids of the sessions of all models: an id that is used at one cannot be opened at another."""
        self._swarm = swarm
        self._lines: list[Line] = []  # the latest last
        self._answering = False

    async def plug(self, line: Line) -> None:
        """Hand messages for that model to it from now on.

        Raises:
            SwarmError: the swarm is closed.
        """
        self._lines.append(line)
        if not self._answering:
            self._answering = True
            await self._swarm.serve_streams(LINK_STREAM, self._on_stream)
            await self._swarm.serve_calls(PING_CALL, _echo)
            await self._swarm.serve_calls(METRICS_CALL, self._on_metrics)

    def unplug(self, line: Line) -> bool:
        """Hand it nothing more; whether another one is left."""
        if line in self._lines:
            self._lines.remove(line)
        return bool(self._lines)

    async def _on_stream(self, stream: Stream) -> None:
        link = Link(stream, on_message=self._on_message, opener=False)
        try:
            await self._admit(link)
            await link.run()
        except Refusal as refusal:
            send(link, refused(refusal))
        except GridError as error:
            log.info("Link of %s ended: %s", link.peer, error)
        except Exception:
            log.exception("Link of %s failed", link.peer)
        finally:
            self.links.discard(link)
            for line in self._lines:
                line.orphan(link)
            await link.close()

    async def _admit(self, link: Link) -> None:
        """Raises Full."""
        callers = [one for line in self._lines for one in line.callers()]
        links, peers = {used for used, _ in callers}, {peer for _, peer in callers}
        now_s = asyncio.get_running_loop().time()
        gone = self.links.admit(link, now_s, lambda one: one in links or one.peer in peers)
        if gone is not None:
            send(gone, refused(GaveWay("Others need a link to this node, and yours has no session; open it again.")))
            await gone.close()

    def _on_message(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        self.links.heard(link, asyncio.get_running_loop().time())
        if len(self._lines) == 1:
            self._lines[0].take(link, message, body)
        elif self._lines:
            self._line_for(message).take(link, message, body)

    def _line_for(self, message: AnyMessage) -> Line:
        """Whom it is for; the latest, where no model is to be told: that one says what is wrong with it."""
        found = None
        if isinstance(message, Step | Resume | Close | Pay):
            session = SessionId(message.session)
            found = next((line for line in self._lines if line.holds(session)), None)
        elif isinstance(message, Open):
            found = next((line for line in reversed(self._lines) if line.model == message.model), None)
        return found or self._lines[-1]

    async def _on_metrics(self, peer: PeerId, payload: bytes) -> bytes:
        return msgspec.msgpack.encode(self._lines[-1].metrics() if self._lines else {})


async def _echo(peer: PeerId, payload: bytes) -> bytes:
    return payload[:64]
