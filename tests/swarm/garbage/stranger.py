"""A peer that says anything: raw frames to a real node over real libp2p, and what the node answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Self, TypeVar

from gridllm.errors import PeerLost
from gridllm.identity.keys import Identity
from gridllm.ids import GridId, PeerId
from gridllm.swarm.libp2p import Libp2pSwarm, open_swarm
from gridllm.swarm.link import LINK_STREAM
from gridllm.swarm.stream import FrameStream
from gridllm.wire.messages import Ack, AnyMessage, Close, Message, Ping, Pong, Refused, decode, encode

T = TypeVar("T")
ANSWER_S = 60.0  # a machine with more to do than cores


class RawLink:
    """One stream to a node, without any of our own checks."""

    def __init__(self, stream: FrameStream) -> None:
        self.stream = stream
        self._nonce = 0

    def send(self, message: Message, body: bytes = b"") -> None:
        """A sound message."""
        self.stream.send(encode(message), body)

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        assert self.stream._transport is not None
        self.stream._transport.write(data)

    async def answer(self) -> AnyMessage:
        """The next message that answers something (no Pong, no Ack). Raises PeerLost when the node ends the link."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                header, _ = await self.stream.read()
                message = decode(header)
                if not isinstance(message, Pong | Ack):
                    return message

    async def settle(self) -> list[AnyMessage]:
        """All that the node answers to what it was sent so far. Raises PeerLost when it ended the link."""
        self._nonce += 1
        self.send(Ping(self._nonce))
        found: list[AnyMessage] = []
        async with asyncio.timeout(ANSWER_S):
            while True:
                header, _ = await self.stream.read()
                message = decode(header)
                if isinstance(message, Pong) and message.nonce == self._nonce:
                    return found
                if not isinstance(message, Pong | Ack):
                    found.append(message)

    async def last_words(self) -> list[AnyMessage]:
        """What the node says until it ends the link."""
        found = []
        try:
            while True:
                found.append(await self.answer())
        except PeerLost:
            return found

    async def ask(self, message: Message) -> AnyMessage:
        """The answer to an Open or Resume."""
        self.send(message)
        return await self.answer()

    async def refused(self, message: Message, body: bytes = b"") -> str:
        """The code of the one refusal that a message meets."""
        self.send(message, body)
        answer = await self.answer()
        assert isinstance(answer, Refused), answer
        assert answer.message.endswith("."), answer.message
        return answer.code

    async def close(self, session: bytes | None = None) -> None:
        """End the link, and a session before."""
        if session is not None:
            self.send(Close(session))
        await self.stream.close()


class Stranger:
    """A client of the swarm in an event loop of its own thread; use it as a context."""

    swarm: Libp2pSwarm

    def __init__(self, addresses: Sequence[str], grid: GridId) -> None:
        self.identity = Identity.ephemeral()
        self.grid = grid
        self._addresses = addresses
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.swarm = self.run(self._enter())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _enter(self) -> Libp2pSwarm:
        return await open_swarm(self.identity, initial_peers=self._addresses, client_only=True, namespace=self.grid)

    async def _leave(self) -> None:
        await self.swarm.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @property
    def peer(self) -> PeerId:
        return self.swarm.peer

    def run(self, work: Coroutine[Any, Any, T] | Awaitable[T], timeout_s: float = 200.0) -> T:
        """Do it in the stranger's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)  # type: ignore[arg-type]

    async def link(self, node: PeerId) -> RawLink:
        """A new link to a node that is known to the swarm."""
        stream = await self.swarm.open_stream(node, LINK_STREAM, timeout_s=ANSWER_S)
        assert isinstance(stream, FrameStream)
        return RawLink(stream)
