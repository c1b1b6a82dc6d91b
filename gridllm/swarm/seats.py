"""The places of a bounded pool that strangers hold with streams: who is silent or slow gives way to who waits.

::

    async with seats.one(stream.peer, swarm.seen_at) as seat:
        async with seat.waiting(60.0):
            header, body = await stream.read()
        seat.moved(len(body))
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

from gridllm.errors import Full, GaveWay
from gridllm.ids import PeerId
from gridllm.swarm.giving_way import Holder, Terms, who_gives_way
from gridllm.swarm.places import SeenAt, whereabouts

GAVE_WAY: Final = "Others wait, and you took little for a while or hold most of the places; come again soon."

Clock = Callable[[], float]


class Seat:
    """One peer's place. Its time runs while it is waited for, and not while this side works for it."""

    def __init__(self, peer: PeerId, places: Collection[str], first: bool, terms: Terms, clock: Clock) -> None:
        self.peer = peer
        self._places = places
        self._first = first
        self._terms = terms
        self._clock = clock
        self._taken_at = clock()
        self._left_s = terms.first_s
        self._waits_since: float | None = None
        self._limit: asyncio.Timeout | None = None  # of the wait that goes on
        self._gone = False

    @asynccontextmanager
    async def waiting(self, limit_s: float) -> AsyncIterator[None]:
        """Around each wait for the peer: to say something, or to take what it is sent.

        Raises:
            GaveWay: the place is another's now. Nothing but a wait is cut short by that.
            TimeoutError: after ``limit_s``, though nobody else wants the place.
        """
        if self._gone:
            raise GaveWay(GAVE_WAY)
        self._waits_since = self._clock()
        try:
            async with asyncio.timeout(limit_s) as self._limit:
                yield
        except TimeoutError:
            if self._gone:
                raise GaveWay(GAVE_WAY) from None
            raise
        finally:
            self._left_s, self._waits_since, self._limit = self._now_left_s(), None, None

    def moved(self, nbytes: int) -> None:
        """The peer brought or took so many bytes."""
        self._left_s = self._terms.bought(self._left_s, nbytes)

    def give_way(self) -> None:
        """Another peer has the place now."""
        self._gone = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def holder(self) -> Holder:
        """As the decision sees it."""
        return Holder(self._now_left_s(), self._clock() - self._taken_at, self._places, self._first)

    def _now_left_s(self) -> float:
        waited_s = 0.0 if self._waits_since is None else self._clock() - self._waits_since
        return self._left_s - waited_s


class Seats:
    """All places of one pool."""

    def __init__(self, most: int, of_peer: int, terms: Terms, full: str, *, clock: Clock = time.monotonic) -> None:
        """
        Args:
            of_peer: how many one peer may hold.
            full: said to those who get none.
        """
        self._most = most
        self._of_peer = of_peer
        self._terms = terms
        self._full = full
        self._clock = clock
        self._coming: Counter[PeerId] = Counter()  # where they come from is being asked
        self._taken: list[Seat] = []
        self._leaving: set[Seat] = set()  # they gave way, and are told so

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def peers(self) -> set[PeerId]:
        """Who has a place."""
        return {seat.peer for seat in self._taken}

    @asynccontextmanager
    async def one(self, peer: PeerId, seen_at: SeenAt, *, first: bool = False) -> AsyncIterator[Seat]:
        """A place, until the block is left.

        Args:
            first: it gets one though strangers, whose names cost nothing, hold all there are.

        Raises:
            Full: all are taken, and nobody gives way.
        """
        if self._coming[peer] >= self._of_peer or max(self._coming.total(), len(self._leaving)) >= self._most:
            raise Full(self._full)
        self._coming[peer] += 1
        try:
            places = set() if first else await whereabouts(seen_at, peer)
        finally:
            self._coming -= Counter([peer])  # drops who is at zero
        seat = Seat(peer, places, first, self._terms, self._clock)
        self._make_room(seat, places, first)
        self._taken.append(seat)
        try:
            yield seat
        finally:
            if seat in self._leaving:
                self._leaving.remove(seat)
            else:
                self._taken.remove(seat)

    def _make_room(self, seat: Seat, places: Collection[str], first: bool) -> None:
        own = [one for one in self._taken if one.peer == seat.peer]
        crowded = len(own) >= self._of_peer
        if not crowded and len(self._taken) < self._most:
            return
        rivals = own if crowded else self._taken
        number = who_gives_way([one.holder() for one in rivals], places, self._terms.turn_s)
        if number is not None:
            gone = rivals[number]
            self._taken.remove(gone)
            self._leaving.add(gone)
            gone.give_way()
        elif crowded or not first:
            raise Full(self._full)
