"""What is read from and handed to the leaderboard's store. Envelopes are the truth; all else follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from gridllm_leaderboard.messages import State
from gridllm_leaderboard.statements import Annulment, Draw, Failure, Grade, Lock, Submission

D = TypeVar("D", Grade, Failure)

Interval = tuple[float, float, float]
"""A value and its 95% interval: value, low, high."""

NO_OVERLAPS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """One submission as it stands."""

    id: str  # statements.id_of the submission
    raw: bytes  # its envelope
    submission: Submission
    state: State
    entered: int  # Unix time, seconds, at which the leaderboard took it
    why: str = ""  # of the state, for people
    round: int = 0  # that it is graded in, or was last; 0: none
    paid: bool = False
    withdrawal: bytes | None = None  # envelope
    overlaps: Mapping[str, float] = field(default_factory=lambda: NO_OVERLAPS)  # contamination report, by task


class Mark(msgspec.Struct, frozen=True, gc=False):
    """What one submission got in the last round that graded it."""

    submission: str
    round: int
    score: float  # 0 to 100
    low: float
    high: float
    tasks: dict[str, Interval]  # bits per byte, or share that is right, by task


@dataclass(frozen=True, slots=True)
class ReignRow:
    """One champion, from the round that it won."""

    submission: str
    since: int  # Unix time, seconds
    round: int
    score: float
    low: float
    high: float
    lead: Interval | None  # over the champion before, on the same items; None: there was none
    bounty: int  # micro-credits


@dataclass(frozen=True, slots=True)
class Round:
    """One round's documents of the leaderboard."""

    number: int
    lock_raw: bytes
    lock: Lock
    draw_raw: bytes | None
    draw: Draw | None
    verdict_raw: bytes | None
    annulment_raw: bytes | None
    annulment: Annulment | None

    @property
    def open(self) -> bool:
        """Whether it has come to no end yet."""
        return self.verdict_raw is None and self.annulment_raw is None

    @property
    def graded(self) -> tuple[str, ...]:
        """Submissions whose grades are wanted: the locked ones, and the champion they are measured against."""
        champion = self.lock.champion
        return self.lock.submissions if champion is None else (*self.lock.submissions, champion)


@dataclass(frozen=True, slots=True)
class Kept(Generic[D]):
    """A grader's document."""

    id: str  # statements.id_of
    raw: bytes
    document: D
