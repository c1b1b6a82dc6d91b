"""What an authority may ask of a candidate, and when. Pure.

A candidate obeys a stranger's program that fills its memory and burns its processor; so it answers only what it
offered, in the order that a measurement has, and nothing is shown before it was committed to.
"""

from __future__ import annotations

from typing import Final

from gridllm.admission.messages import (
    AnyMessage,
    Begin,
    Chase,
    Chunk,
    Compute,
    Echo,
    Fill,
    Kind,
    Queued,
    Send,
    ShowLinks,
    ShowPages,
    Stage,
    Verdict,
)
from gridllm.errors import OutOfTurn, TooLarge

MAX_SEND_BYTES: Final = 64 * 1024**2  # in one transfer, either way
MAX_SENT_BYTES: Final = 512 * 1024**2  # in one examination, each way
MAX_QUESTIONS: Final = 4096  # in one examination, chunks not counted
MAX_CHASES: Final = 8


class Turns:
    """Follows one examination from the candidate's side."""

    def __init__(self, memory_bytes: int) -> None:
        """``memory_bytes``: what Hello offered."""
        self._offered = memory_bytes
        self._begun = False
        self._ended = False
        self._filled = False
        self._receiving = False  # a Chunk came that was not the last
        self._shown_pages = True  # nothing to show yet
        self._links: int | None = None  # of the last chain, not shown yet
        self._rounds: set[tuple[Kind, int]] = set()
        self._chases = 0
        self._questions = 0
        self._sent = self._received = 0  # bytes
        self._transfer = 0  # bytes of the one being received

    def check(self, message: AnyMessage, body_bytes: int) -> None:
        """Take note of a message that came, if it belongs here.

        Raises:
            OutOfTurn: it does not.
            TooLarge: it asks for more than was offered.
        """
        name = type(message).__name__
        if self._ended or not isinstance(message, EXPECTED):
            raise OutOfTurn(f"{name} is nothing that an authority says at this point.")
        if not self._begun and not isinstance(message, BEFORE):
            raise OutOfTurn(f"{name} came before Begin.")
        if self._receiving and not isinstance(message, (Chunk, Verdict)):
            raise OutOfTurn(f"{name} came in the middle of a transfer.")
        if body_bytes and not isinstance(message, Chunk):
            raise OutOfTurn(f"{name} carries no body.")
        if not isinstance(message, Chunk):
            self._questions += 1
            if self._questions > MAX_QUESTIONS:
                raise TooLarge(f"An examination has at most {MAX_QUESTIONS} questions.")
        self._note(message, body_bytes)

    def _note(self, message: AnyMessage, body_bytes: int) -> None:
        if isinstance(message, Begin):
            self._once("Begin", self._begun)
            self._begun = True
        elif isinstance(message, Verdict):
            self._ended = True
        elif isinstance(message, Queued):
            self._once("Begin", self._begun)
        elif isinstance(message, Send):
            self._sent += message.nbytes
            if message.nbytes > MAX_SEND_BYTES or self._sent > MAX_SENT_BYTES:
                raise TooLarge(f"{message.nbytes} bytes are more than an authority may ask for.")
        elif isinstance(message, Chunk):
            self._take_chunk(message, body_bytes)
        elif isinstance(message, Fill):
            self._once("Fill", self._filled)
            if not 0 < message.nbytes <= self._offered:
                raise TooLarge(f"{message.nbytes} bytes were asked for; this machine offered {self._offered}.")
            self._filled = True
        else:
            self._note_work(message)

    def _note_work(self, message: AnyMessage) -> None:
        if isinstance(message, Chase):
            self._chases += 1
            if not self._filled or self._chases > MAX_CHASES:
                raise OutOfTurn("Chase needs a Fill before it, and comes at most 8 times.")
            self._shown_pages = False
        elif isinstance(message, ShowPages):
            if self._shown_pages:
                raise OutOfTurn("ShowPages needs a Chase before it, and comes once after each.")
            self._shown_pages = True
        elif isinstance(message, Compute):
            self._once(f"Round {message.round} of {message.kind}", (message.kind, message.round) in self._rounds)
            self._rounds.add((message.kind, message.round))
            self._links = message.steps
        elif isinstance(message, ShowLinks):
            if self._links is None:
                raise OutOfTurn("ShowLinks needs a Compute before it, and comes once after each.")
            if not all(link < self._links for link in message.links):
                raise OutOfTurn(f"The last chain has {self._links} links; others cannot be shown.")
            self._links = None

    def _take_chunk(self, chunk: Chunk, body_bytes: int) -> None:
        self._transfer += body_bytes
        self._received += body_bytes
        if self._transfer > MAX_SEND_BYTES or self._received > MAX_SENT_BYTES:
            raise TooLarge("An authority sent more than it may.")
        if not (body_bytes or chunk.last):
            raise TooLarge("A Chunk that is not the last one was empty.")
        self._receiving = not chunk.last
        if chunk.last:
            self._transfer = 0

    def _once(self, what: str, done: bool) -> None:
        if done:
            raise OutOfTurn(f"{what} came before, and comes once.")


BEFORE: Final = (Queued, Begin, Verdict)
EXPECTED: Final = (*BEFORE, Stage, Echo, Send, Chunk, Fill, Chase, ShowPages, Compute, ShowLinks)
