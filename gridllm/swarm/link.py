"""Typed messages over a stream, with a heartbeat: a peer that is gone, frozen or too slow becomes PeerLost.

``send`` neither waits nor switches tasks: it encodes the message and hands it to the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Final

from gridllm.errors import GridError, Malformed, PeerLost, WireError
from gridllm.swarm.interface import Stream
from gridllm.wire.messages import AnyMessage, Message, Ping, Pong, Refused, decode, encode

LINK_STREAM: Final = "gridllm.link"
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024  # a peer that takes messages this much slower than they come is lost
MAX_TEXT_CHARS: Final = 1024  # of a refusal
RTT_WEIGHT: Final = 0.25  # of the newest measurement in the running mean
BREATH_MESSAGES: Final = 64  # of one link; then others have their turn
ACCEPTER_PATIENCE: Final = 3  # the side that does not ping waits this many times longer: pings may be late, too

OnMessage = Callable[["Link", AnyMessage, bytearray], None]


class Link:
    """One long-lived stream of messages with one peer, shared by all sessions between the two.

    The opener pings every ``heartbeat_s``; either side gives the other up after silence.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        on_message: OnMessage,
        heartbeat_s: float = 1.0,
        silence_s: float = 5.0,
        opener: bool,
    ) -> None:
        self.peer = stream.peer
        self.rtt_s: float | None = None
        """Round trip to the other side's event loop, seconds, smoothed; None until measured (by the opener only)."""
        self._stream = stream
        self._on_message = on_message
        self._opener = opener
        self._limit_s = silence_s if opener else ACCEPTER_PATIENCE * silence_s
        self._tick_s = min(heartbeat_s, self._limit_s / 4)
        self._pings: dict[
            int, float
        ] = {}  # nonce → clock when sent (the loop's own clock may count whole milliseconds)
        self._nonce = 0
        self._taken: dict[int, asyncio.Future[None]] = {}  # by nonce: who waits for that ping's answer
        self._lost: PeerLost | None = None
        self._closed = False

    @property
    def silent_s(self) -> float:
        """How long nothing at all has come from the other side, seconds."""
        return max(0.0, asyncio.get_running_loop().time() - self._stream.heard_at)

    def send(self, message: Message, body: bytes | memoryview = b"") -> None:
        """Queue a message. ``body`` must not change afterwards.

        Raises:
            PeerLost: the link is closed, broke, or the peer lags more than ``MAX_WAITING_BYTES`` behind.
            WireError: the message is larger than a frame may be.
        """
        if self._lost is not None:
            raise self._lost
        if self._stream.send(encode(message), body) > MAX_WAITING_BYTES:
            raise self._lose(f"Peer {self.peer} lags more than {MAX_WAITING_BYTES >> 20} MiB behind.")

    async def send_paced(self, message: Message, body: bytes | memoryview = b"") -> None:
        """As ``send``, for bulk: waits while the transport is full instead of counting that against the peer.

        Raises:
            PeerLost: the link is closed or broke.
            WireError: the message is larger than a frame may be.
        """
        if self._lost is not None:
            raise self._lost
        await self._stream.write(encode(message), body)

    async def delivered(self) -> None:
        """Wait until the other side has taken in all that was sent so far; by the opener only, and for ever when it
        never answers.
        """
        self._ping()
        nonce, taken = self._nonce, asyncio.get_running_loop().create_future()
        self._taken[nonce] = taken
        try:
            await taken
        finally:
            del self._taken[nonce]

    @property
    def waiting_bytes(self) -> int:
        """Bytes sent that the peer's side has not taken yet."""
        return self._stream.waiting_bytes

    def drop(self, reason: str) -> None:
        """Give the peer up at once; ``run`` raises PeerLost with ``reason``."""
        self._lose(reason)

    async def run(self) -> None:
        """Hand each message to ``on_message`` until this side closes the link.

        Raises:
            PeerLost: the other side ended the stream, fell silent or lags behind.
            WireError: it sent something that does not parse.
        """
        watch = asyncio.create_task(self._watch())
        read, handle = self._stream.read, self._on_message
        try:
            for count in itertools.count(1):
                if count % BREATH_MESSAGES == 0:
                    await asyncio.sleep(0)  # ``read`` does not wait while there are messages
                header, body = await read()
                message = decode(header)
                if isinstance(message, Ping):
                    self.send(Pong(message.nonce))
                elif isinstance(message, Pong):
                    self._measure(message.nonce)
                else:
                    handle(self, message, body)
        except PeerLost as error:
            if self._closed:
                return
            raise self._lost or error from None
        except WireError as error:
            self._explain(error)
            raise
        finally:
            watch.cancel()

    async def close(self) -> None:
        """End the link; ``run`` returns. Idempotent, never raises."""
        self._closed = True
        if self._lost is None:
            self._lost = PeerLost(f"The link to {self.peer} was closed.")
        await self._stream.close()

    def _explain(self, error: WireError) -> None:
        """Tell the peer why the link ends, so that its author need not guess."""
        if not self._opener:  # openers take refusals, nobody else does
            with contextlib.suppress(GridError):
                self.send(Refused(None, None, Malformed.code, str(error)[:MAX_TEXT_CHARS]))

    def _measure(self, nonce: int) -> None:
        if (taken := self._taken.get(nonce)) is not None and not taken.done():
            taken.set_result(None)
        sent_at = self._pings.pop(nonce, None)
        if sent_at is None:
            return
        rtt_s = time.perf_counter() - sent_at
        self.rtt_s = rtt_s if self.rtt_s is None else (1 - RTT_WEIGHT) * self.rtt_s + RTT_WEIGHT * rtt_s

    def _ping(self) -> None:
        self._nonce += 1
        self._pings[self._nonce] = time.perf_counter()
        with contextlib.suppress(PeerLost):  # ``run`` hears of it from ``read``
            self.send(Ping(self._nonce))

    async def _watch(self) -> None:
        """Ping, and count how long nothing at all arrived.

        One round counts for no more than two ticks, so that a stall of this process's own loop (its messages still
        unread in the socket) is not held against the peer.
        """
        loop = asyncio.get_running_loop()
        last, heard_at, silent_s = loop.time(), self._stream.heard_at, 0.0
        while True:
            if self._opener:
                self._ping()
            await asyncio.sleep(self._tick_s)
            now = loop.time()
            if self._stream.heard_at != heard_at:
                heard_at = self._stream.heard_at
                silent_s = min(now - heard_at, self._tick_s)
            else:
                silent_s += min(now - last, 2 * self._tick_s)
            last = now
            if silent_s >= self._limit_s:
                self._lose(f"Peer {self.peer} fell silent: nothing came for {silent_s:.1f} s.")
                return

    def _lose(self, reason: str) -> PeerLost:
        if self._lost is None:
            self._lost = PeerLost(reason)
        self._stream.abort()
        return self._lost
