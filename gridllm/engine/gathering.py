"""How long a pass of decoding steps waits for sessions that are about to ask for theirs: a pure decision.

Sessions that leave a pass together come back together, at this node and at those after it; one short wait therefore
saves a pass per token from then on. A session alone never waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

GATHER_S: Final = 0.010  # no step waits longer than this
SHARE: Final = 0.5  # nor longer than this part of the time its session stays away between steps
PASS_SHARE: Final = 0.25  # but always this part of a pass: one pass for all costs little more than one for some
PAUSE_WEIGHT: Final = 0.25  # of the newest pause in the running mean


class Rhythm:
    """When a session's next step is due, as this node sees it. Times are ``time.perf_counter()``, seconds."""

    __slots__ = ("done_s", "pause_s")

    def __init__(self) -> None:
        self.done_s: float | None = None  # when its last step was computed; None while one is waiting or under way
        self.pause_s: float | None = None  # from there to its next step, smoothed; None until seen once

    def asked(self, now: float) -> None:
        """Its next step came."""
        if self.done_s is not None:
            pause_s = now - self.done_s
            self.pause_s = pause_s if self.pause_s is None else self.pause_s + PAUSE_WEIGHT * (pause_s - self.pause_s)
            self.done_s = None

    def answered(self, now: float) -> None:
        """Its step was computed."""
        self.done_s = now


def start_at(since_s: float, pass_s: float, ready: Iterable[Rhythm], absent: Iterable[Rhythm], now: float) -> float:
    """When a pass should start: now, or, while sessions are due in time to join it, at the end of its patience.

    Args:
        since_s: since when the pass could have started: a step waits and the engine is free.
        pass_s: how long a pass of decoding steps takes.
        ready: sessions whose steps wait.
        absent: sessions that may ask soon.
    """
    pauses = [rhythm.pause_s for rhythm in ready if rhythm.pause_s is not None]
    if not pauses:
        return now
    limit = since_s + max(min(GATHER_S, SHARE * min(pauses)), PASS_SHARE * pass_s)
    return limit if limit > now and any(_due(rhythm, limit, now) for rhythm in absent) else now


def _due(rhythm: Rhythm, limit: float, now: float) -> bool:
    """Whether the session is expected by ``limit``, and not so late that it must be doing something else."""
    if rhythm.done_s is None or rhythm.pause_s is None:
        return False
    return now - rhythm.pause_s < rhythm.done_s + rhythm.pause_s <= limit
