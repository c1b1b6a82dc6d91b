"""Questions and answers over one stream, each with a time-out, the asker's clock running between the two.

Either side may hold one. Whatever arrives that does not belong there ends the conversation: the other side is told
why with ``Refused``, and this side gets the same refusal as an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn, TypeVar

from gridllm.admission.messages import BULK_CHUNK_BYTES, AnyMessage, Chunk, Message, Refused, decode, encode
from gridllm.errors import CallTimeout, Malformed, OutOfTurn, PeerLost, Refusal, TooLarge, WireError
from gridllm.swarm.interface import Stream

WRITE_TIMEOUT_S: Final = 30.0  # for the transport to take one frame
LAST_WORDS_S: Final = 0.1  # to read what had arrived before a stream broke
FAREWELL_S: Final = 2.0  # to tell the other side why this ends
MAX_ANSWER_BYTES: Final = 1024 * 1024  # body of one message: the checkpoints of the longest chase are half of it
MAX_TEXT_CHARS: Final = 1024

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Answer(Generic[M]):
    """What came back."""

    message: M
    body: bytearray
    elapsed_s: float  # from handing over the question until the answer's last byte was here


@dataclass(frozen=True, slots=True)
class Bulk:
    """Chunks that came, up to the last one."""

    data: bytes  # b"" where only their digest was wanted
    nbytes: int
    digest: bytes  # SHA-256
    elapsed_s: float  # since the question


@dataclass(frozen=True, slots=True)
class _Moment:
    loop: float  # event loop time, as ``Stream.heard_at`` has it: uvloop counts in milliseconds
    exact: float


class Conversation:
    """One side of an admission stream. Used by one task."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._loop = asyncio.get_running_loop()

    @property
    def peer(self) -> str:
        """The other side."""
        return self.stream.peer

    async def tell(self, message: Message, body: bytes | memoryview = b"") -> None:
        """Say something that is not answered, or an answer.

        Raises:
            Refusal: the other side had ended the conversation: the class of its code.
            PeerLost: the stream broke.
            CallTimeout: the other side takes nothing in.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self.stream.write(encode(message), body)
        except PeerLost:
            await self._last_words()
            raise
        except TimeoutError as error:
            raise CallTimeout(f"Peer {self.peer} took nothing in for {WRITE_TIMEOUT_S:.0f} s.") from error

    async def read(self, *, timeout_s: float) -> tuple[AnyMessage, bytearray]:
        """The next message, whatever it is.

        Raises:
            Refusal: the other side ended the conversation: the class of its code.
            Malformed: it does not parse, or is too large; the other side was told.
            PeerLost: the stream ended.
            CallTimeout: nothing came in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                frame = await self.stream.read()
            message = decode(frame.header)
        except TimeoutError as error:
            raise CallTimeout(f"Peer {self.peer} said nothing for {timeout_s:.0f} s.") from error
        except WireError as error:
            await self.end(Malformed(f"What came from {self.peer} is no admission message: {error}"), error)
        if isinstance(message, Refused):
            raise Refusal.from_wire(message.code, message.text)
        if len(frame.body) > MAX_ANSWER_BYTES:
            await self.end(TooLarge(f"A message carried {len(frame.body)} bytes; the limit is {MAX_ANSWER_BYTES}."))
        return message, frame.body

    async def ask(
        self, message: Message, expect: type[M], *, body: bytes | memoryview = b"", timeout_s: float
    ) -> Answer[M]:
        """Ask, and wait for the one kind of answer that belongs to the question.

        Raises:
            OutOfTurn: another message came, or the answer was here before the question; the other side was told.
            Refusal, Malformed, PeerLost, CallTimeout: see ``read``.
        """
        asked = self._now()
        await self.tell(message, body)
        answer, came = await self.read(timeout_s=timeout_s)
        if not isinstance(answer, expect):
            await self.end(OutOfTurn(f"To {name_of(message)} belongs {expect.__name__}, and not {name_of(answer)}."))
        return Answer(answer, came, await self._since(asked, message))

    async def collect(
        self,
        question: Message,
        *,
        most_bytes: int,
        timeout_s: float,
        keep: bool = True,
    ) -> Bulk:
        """Ask for bulk data, and take in its Chunks up to the last.

        Args:
            most_bytes: more than that ends the conversation.
            timeout_s: for all of it.
            keep: False where the digest will do.

        Raises:
            OutOfTurn: something else than Chunks came.
            TooLarge: too much came, or nothing in a Chunk that was not the last.
            Refusal, Malformed, PeerLost, CallTimeout: see ``read``.
        """
        asked = self._now()
        await self.tell(question)
        digest, nbytes, kept, first = hashlib.sha256(), 0, bytearray(), True
        while True:
            chunk, body = await self.read(timeout_s=max(0.0, asked.exact + timeout_s - time.perf_counter()))
            if not isinstance(chunk, Chunk):
                await self.end(OutOfTurn(f"To {name_of(question)} belong Chunks, and not {name_of(chunk)}."))
            if first:
                await self._since(asked, question)
                first = False
            nbytes += len(body)
            if nbytes > most_bytes or len(body) > BULK_CHUNK_BYTES or not (body or chunk.last):
                await self.end(
                    TooLarge(
                        f"To {name_of(question)} belong at most {most_bytes} bytes in Chunks of {BULK_CHUNK_BYTES}."
                    )
                )
            digest.update(body)
            if keep:
                kept += body
            if chunk.last:
                return Bulk(bytes(kept), nbytes, digest.digest(), await self._since(asked, question))

    async def deliver(self, parts: AsyncIterable[bytes], expect: type[M], *, timeout_s: float) -> Answer[M]:
        """Send bulk data, and wait for the one kind of answer that belongs to it; the clock runs from the first byte.

        Raises:
            OutOfTurn, Refusal, Malformed, PeerLost, CallTimeout: see ``ask``.
        """
        asked = self._now()
        try:
            async with asyncio.timeout(timeout_s):
                await send_chunks(self, parts)
        except TimeoutError as error:
            raise CallTimeout(f"Peer {self.peer} did not take everything in within {timeout_s:.0f} s.") from error
        answer, came = await self.read(timeout_s=max(0.0, asked.exact + timeout_s - time.perf_counter()))
        if not isinstance(answer, expect):
            await self.end(OutOfTurn(f"To Chunks belongs {expect.__name__}, and not {name_of(answer)}."))
        return Answer(answer, came, await self._since(asked, Chunk()))

    async def end(self, refusal: Refusal, cause: Exception | None = None) -> NoReturn:
        """Tell the other side why this cannot go on, and raise the same.

        Raises:
            Refusal: always, ``refusal``.
        """
        with contextlib.suppress(PeerLost, WireError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                text = str(refusal)[:MAX_TEXT_CHARS]
                await self.stream.write(encode(Refused(code=refusal.code, text=text)))
        raise refusal from cause

    async def _last_words(self) -> None:
        """What the other side said before it closed, if that was why. Raises that Refusal."""
        with contextlib.suppress(PeerLost, WireError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while True:
                    message = decode((await self.stream.read()).header)
                    if isinstance(message, Refused):
                        raise Refusal.from_wire(message.code, message.text)

    def _now(self) -> _Moment:
        return _Moment(self._loop.time(), time.perf_counter())

    async def _since(self, asked: _Moment, question: Message) -> float:
        """Seconds between a question and the last bytes that came.

        An answer that was here before the question was not made from it.
        """
        heard = self.stream.heard_at
        if heard < asked.loop:
            await self.end(OutOfTurn(f"The answer to {name_of(question)} came before the question."))
        now = self._now()
        waited_s = max(0.0, now.loop - heard)  # in our own queue, while this process was busy
        return max(now.exact - asked.exact - waited_s, 1e-6)


async def send_chunks(conversation: Conversation, parts: AsyncIterable[bytes]) -> None:
    """Send bulk data, the last chunk marked; ``parts`` are at most ``BULK_CHUNK_BYTES`` each.

    Raises:
        PeerLost, CallTimeout: see ``Conversation.tell``.
    """
    held: bytes | None = None
    async for part in parts:
        if held is not None:
            await conversation.tell(Chunk(), held)
        held = part
    await conversation.tell(Chunk(last=True), held or b"")


async def one_by_one(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    """``parts``, for ``send_chunks``."""
    for part in parts:
        yield part


def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    """``data`` in chunks, for ``send_chunks``."""
    return one_by_one(data[at : at + BULK_CHUNK_BYTES] for at in range(0, len(data), BULK_CHUNK_BYTES))


def name_of(message: Any) -> str:
    """What a message is called in docs."""
    return type(message).__name__
