"""The link to one node, shared by all sessions that it serves: who waits for what on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from gridllm.errors import CallTimeout, GridError, PeerLost, Refusal, WireError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import Ack, AnyMessage, Leaving, Open, Output, Owing, Ready, Refused, Resume

log = logging.getLogger(__name__)


class Listener(Protocol):
    """What a session hears of its nodes; called from the event loop, must not block or raise."""

    def on_output(self, peer: PeerId, output: Output, body: bytearray) -> None:
        """Hidden states came back."""

    def on_refused(self, peer: PeerId, refused: Refused) -> None:
        """A step was declined, or a node cannot push on."""

    def on_ack(self, peer: PeerId, ack: Ack) -> None:
        """What the node served."""

    def on_owing(self, peer: PeerId, owing: Owing) -> None:
        """The node waits for a voucher."""

    def on_leaving(self, peer: PeerId, grace_s: int) -> None:
        """The node stops in ``grace_s`` seconds."""

    def on_lost(self, peer: PeerId, error: PeerLost) -> None:
        """The link ended: the node is gone, silent or talks nonsense."""

    def on_notices(self) -> None:
        """The maintainers spoke: a node may be admitted no longer."""


class NodeLink:
    """The link to one node, and who waits for what on it."""

    def __init__(self, link: Link, on_end: Callable[[PeerId], None]) -> None:
        self.peer = PeerId(link.peer)
        self._on_end = on_end
        self.lost: PeerLost | None = None
        self.leaving = False
        self._link = link
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Ready]] = {}
        self._listeners: dict[bytes, Listener] = {}
        self._task: asyncio.Task[None] | None = None
        self._used_at = time.monotonic()
        self.send = link.send  # hot path: one call less per token
        self.send_paced = link.send_paced
        self.delivered = link.delivered

    @staticmethod
    async def open(
        swarm: Swarm,
        peer: PeerId,
        addresses: tuple[str, ...],
        *,
        timeout_s: float,
        on_end: Callable[[PeerId], None] = lambda _: None,
    ) -> NodeLink:
        """Dial a node and open a link to it.

        Args:
            on_end: called when the link is lost; not when this side closes it.

        Raises:
            SwarmError: the node cannot be reached in time.
        """
        try:
            async with asyncio.timeout(2 * timeout_s + 1):  # the swarm has time-outs of its own; this one is the last
                await swarm.connect(peer, addresses, timeout_s=timeout_s)
                stream = await swarm.open_stream(peer, LINK_STREAM, timeout_s=timeout_s)
        except TimeoutError:
            raise CallTimeout(f"Node {peer} did not answer within {2 * timeout_s + 1:.0f} s.") from None
        found: list[NodeLink] = []
        link = Link(stream, on_message=lambda _, message, body: found[0]._on_message(message, body), opener=True)
        found.append(NodeLink(link, on_end))
        found[0]._task = asyncio.create_task(found[0]._run())
        return found[0]

    @property
    def silent_s(self) -> float:
        """How long nothing at all has come from the node, seconds."""
        return self._link.silent_s

    @property
    def rtt_s(self) -> float | None:
        """Measured round trip, seconds; None before the first heartbeat came back."""
        return self._link.rtt_s

    @property
    def idle_s(self) -> float:
        """How long no session has used the link, seconds."""
        return 0.0 if self._listeners or self._answers else time.monotonic() - self._used_at

    def listen(self, session: bytes, listener: Listener) -> None:
        """Hand what arrives for ``session`` to ``listener``."""
        self._listeners[session] = listener

    def forget(self, session: bytes) -> None:
        """Stop handing out what arrives for ``session``."""
        self._listeners.pop(session, None)
        self._used_at = time.monotonic()

    def notices_changed(self) -> None:
        """Tell the sessions that use this link."""
        for listener in list(self._listeners.values()):
            listener.on_notices()

    async def ask(self, request: Open | Resume, *, timeout_s: float) -> Ready:
        """Send an Open or Resume (its ``call`` is filled in) and wait for the node to be ready.

        Raises:
            Refusal: the node declined.
            PeerLost: the link ended while waiting.
            CallTimeout: the node lives but did not answer in time.
        """
        if self.lost is not None:
            raise self.lost
        self._calls += 1
        call = self._calls
        answer: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._answers[call] = answer
        try:
            self.send(msgspec.structs.replace(request, call=call))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise CallTimeout(f"Node {self.peer} did not get a session ready within {timeout_s:.0f} s.") from None
        finally:
            self._answers.pop(call, None)

    async def close(self) -> None:
        """End the link; its sessions are told that the node is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._link.close()
        self._end(PeerLost(f"The link to {self.peer} was closed."))

    async def _run(self) -> None:
        try:
            await self._link.run()
            reason = PeerLost(f"Node {self.peer} closed the link.")
        except PeerLost as error:
            reason = error
        except WireError as error:
            reason = PeerLost(f"Node {self.peer} sent something that does not parse: {error}")
        log.info("Link to %s was lost: %s", self.peer, reason)
        self._on_end(self.peer)
        self._end(reason)
        await self._link.close()

    def _end(self, reason: PeerLost) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(reason)
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.on_lost(self.peer, reason)

    def _on_message(self, message: AnyMessage, body: bytearray) -> None:
        if isinstance(message, Output):
            listener = self._listeners.get(message.session)
            if listener is not None:
                listener.on_output(self.peer, message, body)
        elif isinstance(message, Ready):
            answer = self._answers.get(message.call)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif isinstance(message, Refused):
            self._on_refused(message)
        elif isinstance(message, Ack):
            if (listener := self._listeners.get(message.session)) is not None:
                listener.on_ack(self.peer, message)
        elif isinstance(message, Owing):
            if (listener := self._listeners.get(message.session)) is not None:
                listener.on_owing(self.peer, message)
        elif isinstance(message, Leaving):
            self.leaving = True
            for listener in list(self._listeners.values()):
                listener.on_leaving(self.peer, message.grace_s)
        else:
            log.debug("Node %s sent a %s, which clients do not take", self.peer, type(message).__name__)

    def _on_refused(self, refused: Refused) -> None:
        if refused.call is not None:
            answer = self._answers.get(refused.call)
            if answer is not None and not answer.done():
                answer.set_exception(Blamed.of(refused))
        elif refused.session is not None and (listener := self._listeners.get(refused.session)) is not None:
            listener.on_refused(self.peer, refused)
        else:
            log.debug("Node %s refused: %s", self.peer, refused.message)


class Blamed(GridError):
    """A node's refusal of an Open or Resume, with the neighbour it blames."""

    def __init__(self, refusal: Refusal, code: str, peer: PeerId | None) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.code = code
        self.peer = peer

    @staticmethod
    def of(refused: Refused) -> Blamed:
        """The refusal as it came over the wire."""
        peer = PeerId(refused.peer) if refused.peer is not None else None
        return Blamed(Refusal.from_wire(refused.code, refused.message), refused.code, peer)
