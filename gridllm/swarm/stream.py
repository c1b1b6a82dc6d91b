"""Frames over a byte transport: u32 header length, u32 body length, header, body; both lengths capped before reading.

The grid's data plane. Bytes of a body go from the socket straight into the ``bytearray`` that the tensor will share,
and a frame is parsed where it arrives, without a task switch for its parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from gridllm.errors import PeerLost, WireError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Frame
from gridllm.wire.messages import MAX_BODY_BYTES, MAX_HEADER_BYTES

PREFIX: Final = struct.Struct("!II")  # header length, body length; bytes
SCRATCH_BYTES: Final = 80 * 1024  # holds a prefix and the largest header
JOIN_BYTES: Final = 64 * 1024  # smaller frames go out in one piece: a copy is cheaper than a system call
WRITE_HIGH_BYTES: Final = 1024 * 1024  # ``write`` waits above this
READ_HIGH_BYTES: Final = 2 * MAX_BODY_BYTES  # reading pauses while this much waits for ``read``; less where bodies are
FRAME_COST_BYTES: Final = 512  # what an empty frame takes while it waits
FIRST_BODY_BYTES: Final = 256 * 1024  # a body announced gets this much memory; more as its bytes arrive
BODY_GROWTH: Final = 4
FLUSH_S: Final = 1.0  # ``close`` gives what still waits this long


def check_caps(header_bytes: int, body_bytes: int, max_body_bytes: int = MAX_BODY_BYTES) -> None:
    """Refuse a frame that is too large to send or to read.

    Raises:
        WireError: the header or the body exceeds its cap.
    """
    if header_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise WireError(
            f"A frame of {header_bytes} + {body_bytes} bytes exceeds the caps of {MAX_HEADER_BYTES} for the header and "
            f"{max_body_bytes} for the body; send it in smaller pieces."
        )


class FrameStream(asyncio.BufferedProtocol):
    """``interface.Stream`` over an asyncio transport."""

    def __init__(self, peer: PeerId, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        loop = asyncio.get_running_loop()
        self.peer = peer
        self._max_body_bytes = max_body_bytes  # of a frame that arrives
        self._read_high_bytes = min(READ_HIGH_BYTES, 2 * max_body_bytes)
        self._time = loop.time
        self.heard_at = loop.time()
        self.on_end: Callable[[FrameStream], None] = lambda _: None
        self._transport: asyncio.Transport | None = None
        self._kept: object = None
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._end = 0  # bytes of scratch in use
        self._header = b""  # of the frame whose body is arriving
        self._body: bytearray | None = None
        self._body_bytes = 0  # that it will have
        self._body_view: memoryview | None = None
        self._filled = 0
        self._frames: deque[Frame] = deque()
        self._queued = 0  # bytes in _frames
        self._reading = True
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # set while the transport's buffer is full
        self._error: PeerLost | WireError | None = None  # why no further frames come
        self._lost: asyncio.Future[None] = loop.create_future()

    @classmethod
    def adopt(
        cls,
        peer: PeerId,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> FrameStream:
        """Take over a connection that was opened (and perhaps read from) through asyncio's streams."""
        stream = cls(peer, max_body_bytes=max_body_bytes)
        stream._kept = writer  # its finalizer would close the transport
        transport: asyncio.Transport = writer.transport  # type: ignore[assignment]
        transport.pause_reading()  # uvloop chooses how to read when reading (re)starts
        transport.set_protocol(stream)
        stream.connection_made(transport)
        early = bytes(reader._buffer)  # type: ignore[attr-defined] # what came along with the handshake
        for offset in range(0, len(early), MAX_HEADER_BYTES):
            stream._feed(early[offset : offset + MAX_HEADER_BYTES])
        if reader.at_eof() or reader._eof:  # type: ignore[attr-defined]
            stream.eof_received()
            transport.close()
        elif not transport.is_closing():
            transport.resume_reading()
        return stream

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the transport has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def read(self) -> Frame:
        """The next frame. Raises PeerLost at the end of the stream, WireError for an oversized frame."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frame = self._frames.popleft()
        self._queued -= _cost(frame)
        if not self._reading and self._queued < self._read_high_bytes // 2:
            self._reading = True
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return frame

    def send(self, header: bytes, body: bytes | memoryview = b"") -> int:
        """Queue one frame; returns the bytes that wait. Raises PeerLost, WireError."""
        transport = self._transport
        if isinstance(self._error, PeerLost):
            raise self._error
        if transport is None or transport.is_closing():
            raise PeerLost(f"The stream to {self.peer} is closed.")
        size = len(body)
        check_caps(len(header), size)
        prefix = PREFIX.pack(len(header), size)
        if size <= JOIN_BYTES:
            transport.write(b"".join((prefix, header, body)))
        else:
            transport.write(prefix + header)
            transport.write(body)
        return transport.get_write_buffer_size()

    async def write(self, header: bytes, body: bytes | memoryview = b"") -> None:
        """Send one frame; waits while the transport's buffer is full. Raises PeerLost, WireError."""
        self.send(header, body)
        while self._writable is not None:
            await asyncio.shield(self._writable)
            if self._error is not None:
                raise self._error

    def abort(self) -> None:
        """End the stream at once."""
        self._end_with(PeerLost(f"The stream to {self.peer} was closed."))
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """End the stream; what still waits is given ``FLUSH_S`` to leave."""
        self._end_with(PeerLost(f"The stream to {self.peer} was closed."))
        transport = self._transport
        if transport is None or self._lost.done():
            return
        transport.close()
        if transport.get_write_buffer_size():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await asyncio.shield(self._lost)
        if not self._lost.done():
            transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)  # type: ignore[union-attr]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: into the body being received, if there is one."""
        if self._body is None or self._body_view is None:
            return self._scratch[self._end :]
        if self._filled == len(self._body):  # here and not on arrival: then the transport still holds on to the view
            self._body_view.release()
            self._body.extend(bytes(min(self._body_bytes, BODY_GROWTH * self._filled) - self._filled))
            self._body_view = memoryview(self._body)
        return self._body_view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        self.heard_at = self._time()
        if self._body is None:
            self._end += nbytes
            self._parse()
            return
        self._filled += nbytes
        if self._filled == self._body_bytes:
            body, self._body, self._body_view = self._body, None, None
            self._deliver(self._header, body)

    def eof_received(self) -> None:
        """The other side closed; asyncio closes the transport in turn."""
        self._end_with(PeerLost(f"Peer {self.peer} closed the stream."))

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._end_with(PeerLost(f"The stream to {self.peer} broke{f': {exc}' if exc else ''}."))
        if not self._lost.done():
            self._lost.set_result(None)
            self.on_end(self)
        self.resume_writing()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # parsing

    def _feed(self, data: bytes) -> None:
        """Take in bytes that were read by someone else."""
        view = memoryview(data)
        while view and self._error is None:
            room = self.get_buffer(-1)
            taken = min(len(room), len(view))
            room[:taken] = view[:taken]
            view = view[taken:]
            self.buffer_updated(taken)

    def _parse(self) -> None:
        """Cut whole frames out of the scratch buffer and move what is left to its start."""
        scratch, start, end = self._scratch, 0, self._end
        while end - start >= PREFIX.size:
            header_bytes, body_bytes = PREFIX.unpack_from(scratch, start)
            try:
                check_caps(header_bytes, body_bytes, self._max_body_bytes)
            except WireError as error:
                if self._transport is not None:
                    self._transport.pause_reading()  # and not closed yet: the peer may be told why
                self._end_with(WireError(f"Peer {self.peer} sent something that is no frame of ours: {error}"))
                return
            body_start = start + PREFIX.size + header_bytes
            if end < body_start:
                break
            header = bytes(scratch[start + PREFIX.size : body_start])
            have = min(body_bytes, end - body_start)
            body = bytearray(min(body_bytes, max(FIRST_BODY_BYTES, have)))  # announcing much costs its sender nothing
            body[:have] = scratch[body_start : body_start + have]
            start = body_start + have
            if have == body_bytes:
                self._deliver(header, body)
            else:
                self._header, self._body, self._body_view = header, body, memoryview(body)
                self._body_bytes, self._filled = body_bytes, have
        self._end = end - start
        if start and self._end:
            scratch[: self._end] = bytes(scratch[start:end])

    def _deliver(self, header: bytes, body: bytearray) -> None:
        frame = Frame(header, body)
        self._frames.append(frame)
        self._queued += _cost(frame)
        if self._queued > self._read_high_bytes and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def _end_with(self, error: PeerLost | WireError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _cost(frame: Frame) -> int:
    """Memory that a frame takes while it waits, bytes."""
    return FRAME_COST_BYTES + len(frame.header) + len(frame.body)
