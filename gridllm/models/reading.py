"""One stream of pieces from a seed, as its reader has it: questions go out, answers come in the same order."""

from __future__ import annotations

import asyncio
from typing import Final

from gridllm.errors import BadPosition, NodeFault, NotHeld, PeerLost, Refusal, WrongModel
from gridllm.models.line import Line
from gridllm.swarm.interface import Frame, Stream
from gridllm.wire.weights import Declined, Want, decode_answer, encode

SILENT_S: Final = 20.0  # in which nothing at all came: the seed is gone
PIECE_S: Final = (
    20.0  # for one piece, 100 kbit/s: on a slower line there are fewer streams, and the last takes its time
)
WHOLE_S: Final = 150.0  # for one piece, though some of it comes all the time; seeds wait longer (``seeding.IDLE_S``)
GOES_ON: Final = (WrongModel, NotHeld, BadPosition, NodeFault)
"""Refusals after which a seed answers on; after all others it ends the stream."""


class TooMany(Exception):
    """The line is too slow for so many streams: this one ends."""


class Reading:
    """``ask`` a few pieces ahead, and for each ``answer``."""

    def __init__(self, stream: Stream, line: Line) -> None:
        self.peer = stream.peer
        self._stream = stream
        self._line = line

    async def ask(self, want: Want) -> None:
        """Raises PeerLost."""
        try:
            async with asyncio.timeout(SILENT_S):
                await self._stream.write(encode(want))
        except TimeoutError:
            raise PeerLost(f"Seed {self.peer} takes no questions any more.") from None

    async def answer(self, waiting: int) -> tuple[int, bytearray]:
        """The next piece, and the size of what it is a piece of.

        Args:
            waiting: questions that have no answer yet.

        Raises:
            Refusal: the seed has none; where the stream goes on, the answers behind it are off the stream, too.
            PeerLost, WireError: the seed is gone, or sends what is no answer.
            TooMany: the line is too slow for so many streams.
        """
        header, body = await self._frame()
        answer = decode_answer(header)
        if isinstance(answer, Declined):
            refusal = Refusal.from_wire(answer.code, answer.text)
            if isinstance(refusal, GOES_ON):
                for _ in range(waiting - 1):
                    await self._frame()
            raise refusal
        return answer.size, body

    async def _frame(self) -> Frame:
        """Waits as long as something of it comes."""
        stream, time = self._stream, asyncio.get_running_loop().time
        asked_at = time()
        while True:
            heard_at = max(asked_at, stream.heard_at)
            try:
                async with asyncio.timeout_at(min(heard_at + SILENT_S, asked_at + WHOLE_S)):
                    return await stream.read()
            except TimeoutError:
                waited_s, heard_on = time() - asked_at, max(asked_at, stream.heard_at) > heard_at
            if waited_s >= WHOLE_S or not heard_on:
                raise PeerLost(f"Seed {self.peer} sent no whole piece in {waited_s:.0f} s.")
            if waited_s >= PIECE_S and self._line.gives_up(self, time()):
                raise TooMany
