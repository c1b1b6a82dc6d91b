"""The in-memory network's streams: two ends, a queue each way, delivered after the network's latency."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gridllm.errors import PeerLost, WireError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Frame
from gridllm.swarm.stream import WRITE_HIGH_BYTES, check_caps
from gridllm.wire.messages import MAX_BODY_BYTES

END: Final = Frame(b"", bytearray(b"end"))  # compared by identity: the other side closed


class Conditions(Protocol):
    """What a stream asks of its network."""

    latency_s: float

    def stuck(self, a: PeerId, b: PeerId) -> bool:
        """Whether nothing passes between the two at present."""


class MemoryStream:
    """``interface.Stream``; one end of a pair."""

    outgoing: Pipe

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.heard_at = asyncio.get_running_loop().time()
        self.unread = 0  # bytes that arrived and wait for ``read``
        self.max_body_bytes = MAX_BODY_BYTES  # of a frame that arrives
        self.on_end: Callable[[MemoryStream], None] = lambda _: None
        self._frames: deque[Frame] = deque()
        self._error: PeerLost | WireError | None = None
        self._arrival = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """See ``interface.Stream``."""
        return self.outgoing.waiting

    async def read(self) -> Frame:
        """See ``interface.Stream``."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._arrival.clear()
            await self._arrival.wait()
        frame = self._frames.popleft()
        self.unread -= len(frame.header) + len(frame.body)
        return frame

    def send(self, header: bytes, body: bytes | memoryview = b"") -> int:
        """See ``interface.Stream``."""
        if isinstance(self._error, PeerLost):
            raise self._error
        check_caps(len(header), len(body))
        self.outgoing.push(Frame(header, bytearray(body)))
        return self.outgoing.waiting

    async def write(self, header: bytes, body: bytes | memoryview = b"") -> None:
        """See ``interface.Stream``."""
        self.send(header, body)
        while self.outgoing.waiting > WRITE_HIGH_BYTES:
            await asyncio.sleep(0.001)
            if self._error is not None:
                raise self._error

    def abort(self) -> None:
        """See ``interface.Stream``."""
        self._end(PeerLost(f"The stream to {self.peer} was closed."))

    async def close(self) -> None:
        """See ``interface.Stream``."""
        self.abort()

    def arrive(self, frame: Frame) -> None:
        """Called by the pipe that leads here."""
        if frame is END:
            self._end(PeerLost(f"Peer {self.peer} closed the stream."))
            return
        self.heard_at = asyncio.get_running_loop().time()
        try:
            check_caps(len(frame.header), len(frame.body), self.max_body_bytes)
        except WireError as error:
            self._error = WireError(f"Peer {self.peer} sent something that is no frame of ours: {error}")
            self._arrival.set()
            return
        if self._error is None:
            self._frames.append(frame)
            self.unread += len(frame.header) + len(frame.body)
            self._arrival.set()

    def _end(self, error: PeerLost) -> None:
        if not isinstance(self._error, PeerLost):
            self._error = error if self._error is None else PeerLost(str(self._error))
            self.outgoing.push(END)
            self._arrival.set()
            self.on_end(self)


class Pipe:
    """One direction of a stream pair; keeps order whatever the latency does."""

    def __init__(self, network: Conditions, source: PeerId, target: PeerId, end: MemoryStream) -> None:
        self._network = network
        self._between = source, target
        self._end = end
        self._frames: deque[Frame] = deque()
        self._under_way = 0  # bytes

    @property
    def waiting(self) -> int:
        """Bytes sent that the other side has not read yet."""
        return self._under_way + self._end.unread

    def push(self, frame: Frame) -> None:
        """Send a frame on its way."""
        self._frames.append(frame)
        self._under_way += len(frame.header) + len(frame.body)
        asyncio.get_running_loop().call_later(self._network.latency_s, self._pump)

    def flush(self) -> None:
        """Deliver everything that was held back."""
        while self._frames and not self._network.stuck(*self._between):
            self._pump()

    def _pump(self) -> None:
        if self._frames and not self._network.stuck(*self._between):
            frame = self._frames.popleft()
            self._under_way -= len(frame.header) + len(frame.body)
            self._end.arrive(frame)


def stream_pair(network: Conditions, opener: PeerId, accepter: PeerId) -> tuple[MemoryStream, MemoryStream]:
    """Both ends of a new stream: the opener's and the accepter's."""
    mine, theirs = MemoryStream(accepter), MemoryStream(opener)
    mine.outgoing = Pipe(network, opener, accepter, theirs)
    theirs.outgoing = Pipe(network, accepter, opener, mine)
    return mine, theirs
