"""How fast a session was served: counted step by step, at the cost of a few additions, and handed over in pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gridllm.admission.fitness import LEAST_TOKENS
from gridllm.wire.record import NodeRecord

PIECE_S: Final = 60.0  # a long session is handed over once a minute


class Place(Protocol):
    """One hop (``chain.Hop``)."""

    record: NodeRecord
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tally:
    """A stretch of one session on an unchanged chain: decode steps of one row that nothing disturbed."""

    hops: tuple[tuple[NodeRecord, int, int], ...]  # (node, first block, one past the last), head first
    tokens: int
    seconds: float  # from sending to the answer, all steps together
    began: float  # Unix time
    ended: float


class Crowd:
    """The sessions of one client: while several decode they wait for each other, and none is counted."""

    def __init__(self) -> None:
        self.sessions = 0


class Pace:
    """Counts one session's steps."""

    def __init__(
        self, crowd: Crowd, hand_over: Callable[[Tally], None], *, clock: Callable[[], float] = time.time
    ) -> None:
        """``hand_over`` is called on the event loop with each stretch of at least ``LEAST_TOKENS``; must not raise."""
        self._crowd = crowd
        self._hand_over = hand_over
        self._clock = clock
        self._hops: tuple[tuple[NodeRecord, int, int], ...] = ()
        self._epoch = -1
        self._tokens = 0
        self._seconds = 0.0
        self._began = 0.0
        self._joined = False

    def begin(self) -> None:
        """The session is open."""
        if not self._joined:
            self._joined = True
            self._crowd.sessions += 1

    def step(self, epoch: int, hops: Sequence[Place], seconds: float) -> None:
        """One undisturbed decode step took ``seconds`` on this chain; ``epoch`` changes with it."""
        self.begin()
        if self._crowd.sessions > 1:
            return
        if epoch != self._epoch:
            self._flush()
            self._epoch = epoch
            self._hops = tuple((hop.record, hop.start, hop.end) for hop in hops)
        if not self._tokens:
            self._began = self._clock() - seconds
        self._tokens += 1
        self._seconds += seconds
        if self._seconds >= PIECE_S:
            self._flush()

    def end(self) -> None:
        """The session is closed; idempotent."""
        self._flush()
        if self._joined:
            self._joined = False
            self._crowd.sessions -= 1

    def _flush(self) -> None:
        if self._tokens >= LEAST_TOKENS:
            self._hand_over(Tally(self._hops, self._tokens, self._seconds, self._began, self._clock()))
        self._tokens, self._seconds = 0, 0.0
