"""Whose model is looked at next. Pure.

A look costs the leaderboard time before anybody has paid, so its queue is fair: each account has a clock of its own,
which goes on by what its models take, and whose clock is behind is served first (fair queueing: Demers, Keshav and
Shenker, SIGCOMM 1989). A small model passes a large one that came shortly before, and waits for no account's second;
but a large one is not passed by what comes later than it takes itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

SETUP_S: Final = 10.0  # of a look: a process is started, config, shapes and tokenizer are read
BYTES_PER_S: Final = 20e6  # of weights, on a slow disk
LARGE_S: Final = 60.0  # looks that take longer leave one lane to the others
LANE_BYTES: Final = 5 * 2**30  # of memory: the bound on a child (checking.check.Limits) and our own libraries
MOST_LANES: Final = 4
MOST_CLOCKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A model that came whole."""

    id: str
    account: str
    size: int  # bytes of weights
    since: float  # seconds, on the clock of ``now``

    @property
    def takes_s(self) -> float:
        """How long a look at it is thought to take."""
        return SETUP_S + self.size / BYTES_PER_S


def lanes(memory_bytes: int, processors: int) -> int:
    """Looks at once: as many as memory bears, and processors serve."""
    return max(1, min(MOST_LANES, processors, memory_bytes // LANE_BYTES))


class Turns:
    """Each account's clock."""

    def __init__(self) -> None:
        self._clocks: dict[str, float] = {}

    def next(self, waiting: Iterable[Waiting], running: Collection[Waiting], lanes: int, now: float) -> Waiting | None:
        """Who is looked at now, if anybody; ``began`` is to be called then.

        Of one account one is looked at at a time, and of several lanes one is kept free of large models.
        """
        if len(running) >= lanes:
            return None
        busy = {one.account for one in running}
        may_large = lanes == 1 or sum(one.takes_s > LARGE_S for one in running) < lanes - 1
        may = [one for one in waiting if one.account not in busy and (may_large or one.takes_s <= LARGE_S)]
        return min(may, key=lambda one: (self._ends(one), one.since, one.id), default=None)

    def began(self, one: Waiting, now: float) -> None:
        """Its account's clock goes on."""
        self._clocks[one.account] = self._ends(one)
        if len(self._clocks) > MOST_CLOCKS:
            self._clocks = {account: at for account, at in self._clocks.items() if at > now}

    def _ends(self, one: Waiting) -> float:
        return max(one.since, self._clocks.get(one.account, 0.0)) + one.takes_s
