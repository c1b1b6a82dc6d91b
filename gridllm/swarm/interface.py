"""What the grid asks of a peer-to-peer network; ``libp2p.py`` and ``memory.py`` provide it.

Nothing here knows about hivemind: the rooms above import this module only, and get an implementation handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gridllm.errors import SwarmError
from gridllm.ids import PeerId
from gridllm.wire.messages import MAX_BODY_BYTES

MAX_CALL_BYTES: Final = 1024 * 1024  # of a request or an answer; larger ones go over a stream


class Frame(NamedTuple):
    """One length-prefixed unit of a stream."""

    header: bytes  # msgpack message (wire.messages)
    body: bytearray  # raw tensor bytes, possibly empty; writable so that tensors can share it


class Stream(Protocol):
    """A long-lived, bidirectional, ordered stream of frames with one authenticated peer."""

    peer: PeerId
    heard_at: float
    """Event loop time, seconds, when bytes last arrived (at first: when the stream opened)."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the transport has not taken yet."""
        ...

    async def read(self) -> Frame:
        """The next frame.

        Raises:
            PeerLost: the stream ended or broke.
            WireError: a frame exceeds the caps of ``wire.messages``; the stream is unusable afterwards.
        """
        ...

    async def write(self, header: bytes, body: bytes | memoryview = b"") -> None:
        """Send one frame; returns once it is handed to the transport (waits when its buffer is full).

        Raises:
            PeerLost: the stream is closed or broke.
        """
        ...

    def send(self, header: bytes, body: bytes | memoryview = b"") -> int:
        """Queue one frame without waiting; returns how many bytes now wait for the transport.

        ``body`` must not change until it is sent.

        Raises:
            PeerLost: the stream is closed or broke.
            WireError: the frame exceeds the caps of ``wire.messages``; nothing was sent.
        """
        ...

    def abort(self) -> None:
        """End the stream at once and drop what still waits; a pending ``read`` raises PeerLost."""
        ...

    async def close(self) -> None:
        """End the stream; idempotent, never raises."""
        ...


CallHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
StreamHandler = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A value in the DHT, its owner already verified."""

    owner: PeerId
    value: bytes
    expires_at: float  # Unix time, seconds


class Swarm(Protocol):
    """One participant's presence in the network. Every method that waits on others has a time-out."""

    peer: PeerId
    addresses: tuple[str, ...]  # full multiaddrs (with /p2p/<peer>) others can dial

    async def connect(self, peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float = 5.0) -> None:
        """Make ``peer`` dialable and connect to it. Raises AddressError, Unreachable."""
        ...

    async def seen_at(self, peer: PeerId) -> tuple[str, ...]:
        """Multiaddrs at the far end of the connections with ``peer`` that are open now; empty when there are none.

        Unlike what a peer says of itself these are facts; a relayed connection's has ``/p2p-circuit`` in it.
        """
        ...

    async def connected(self) -> int:
        """How many peers have a connection with this one now. Raises SwarmError."""
        ...

    async def serve_calls(self, name: str, handler: CallHandler) -> None:
        """Answer unary calls of that name. A GridError raised by the handler reaches the caller as code and text."""
        ...

    async def call(self, peer: PeerId, name: str, payload: bytes, *, timeout_s: float = 5.0) -> bytes:
        """One unary request of under 1 MB. Raises Unreachable, CallTimeout, or the Refusal the handler raised."""
        ...

    async def serve_streams(self, name: str, handler: StreamHandler, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Hand each incoming stream of that name to ``handler`` in a task of its own.

        Frames with a larger body break their stream, and about twice that is read ahead of ``Stream.read``: so it
        bounds what strangers can make this process hold.
        """
        ...

    async def open_stream(
        self, peer: PeerId, name: str, *, timeout_s: float = 5.0, max_body_bytes: int = MAX_BODY_BYTES
    ) -> Stream:
        """Open a stream; ``max_body_bytes`` bounds what arrives, as in ``serve_streams``.

        Raises:
            Unreachable, CallTimeout: there is no way to the peer.
        """
        ...

    async def store(self, key: str, name: str, value: bytes, *, expires_at: float) -> bool:
        """Put an owner-bound, signed value under (key, own peer id | name). False when no peer accepted it."""
        ...

    async def fetch(self, key: str) -> Mapping[tuple[PeerId, str], Stored]:
        """All live, verified values under ``key``, by (owner, name). Empty when there are none."""
        ...

    async def failed(self) -> SwarmError:
        """Wait until this presence is lost for good without having been closed; returns why."""
        ...

    async def close(self) -> None:
        """Leave the network and end every process this swarm started; idempotent."""
        ...
