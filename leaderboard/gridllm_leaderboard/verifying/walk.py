"""The list of checks as it grows, and the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from gridllm.errors import GridError, LeaderboardError, SwarmError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str  # for people: "the lock"
    outcome: Literal["sound", "wrong", "left out"]
    detail: str  # for people


class UnsoundError(LeaderboardError):
    """A check failed; nothing after it was looked at."""


@dataclass(slots=True)
class Step:
    """What a check has to say of itself."""

    detail: str = ""


class Walk:
    """Checks in their order."""

    def __init__(self, tell: Callable[[Check], None] = lambda _: None) -> None:
        """``tell`` is called with each check once it is done."""
        self.checks: list[Check] = []
        self._tell = tell

    @contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """One check, which fails with any error of ours but that nobody could be reached.

        Raises:
            UnsoundError: it failed.
        """
        step = Step()
        try:
            yield step
        except SwarmError:
            raise
        except GridError as error:
            self._add(Check(what, "wrong", str(error)))
            raise UnsoundError(f"The leaderboard's claims do not hold. Wrong: {what}: {error}") from error
        self._add(Check(what, "sound", step.detail))

    def leave_out(self, what: str, why: str) -> None:
        """Say that something was not checked."""
        self._add(Check(what, "left out", why))

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        self._tell(check)
