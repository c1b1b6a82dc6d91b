"""How often one peer, and one address, may come to be measured, and how many at once. Attempts refused count, too."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from gridllm.errors import Full, TooSoon
from gridllm.ids import PeerId
from gridllm.swarm.places import places_of

TRIES: Final = 6  # of one peer in a row
TRY_EVERY_S: Final = 600.0  # then one more each ten minutes: 6 an hour
ADDRESS_TRIES: Final = 8  # times as many for all peers behind one address: a household, an office, a relay
RENEWALS: Final = 4.0  # tries within one certificate's life that every grid allows, however short that is
MOST_KEPT: Final = 4096  # peers, and addresses, that are remembered; the longest unseen are forgotten
MOST_STREAMS: Final = 256  # conversations at once
MOST_STREAMS_OF_PLACE: Final = 64  # of them with machines at one address: identities cost nothing


class Tries:
    """Attempts that each key has left; one table. A key seen first has all."""

    def __init__(self, most: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → attempts left, and when

    def take(self, key: str, every_s: float, count: float = 1.0) -> float:
        """Count attempts; a new one is given each ``every_s``. Returns how long to wait, seconds; 0: go ahead.

        One that comes too early is not counted, so that asking again does not put off the turn of those who wait.
        """
        now = self._clock()
        left, at = self._left.pop(key, (self._most, now))
        left = min(self._most, left + (now - at) / every_s)
        wait_s = 0.0 if left >= count else (count - left) * every_s
        self._left[key] = left if wait_s else left - count, now
        while len(self._left) > MOST_KEPT:
            self._left.popitem(last=False)
        return wait_s

    def give_back(self, key: str) -> None:
        """An attempt that failed by no fault of its maker."""
        if key in self._left:
            left, at = self._left[key]
            self._left[key] = min(self._most, left + 1.0), at

    def __len__(self) -> int:
        return len(self._left)


class Limits:
    """The two tables of one authority."""

    def __init__(self, tries: int = TRIES, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries = tries
        self._peers = Tries(tries, clock=clock)
        self._places = Tries(ADDRESS_TRIES * tries, clock=clock)

    def count(self, peer: PeerId, addresses: Iterable[str], certificate_s: float) -> None:
        """Count one attempt of ``peer``, which is connected from ``addresses``.

        Raises:
            TooSoon: says when to come again.
        """
        every_s = min(TRY_EVERY_S * TRIES / self._tries, certificate_s / RENEWALS)
        whose, wait_s = "This machine was", self._peers.take(peer, every_s)
        if not wait_s:  # one that keeps asking too soon does not use up its neighbours' attempts
            waits = {place: self._places.take(place, every_s / ADDRESS_TRIES) for place in places_of(addresses)}
            whose, wait_s = "Machines at your address were", max(waits.values(), default=0.0)
            if wait_s:
                self._peers.give_back(peer)
                for place in (place for place, place_wait_s in waits.items() if not place_wait_s):
                    self._places.give_back(place)
        if wait_s:
            raise TooSoon(f"{whose} measured, or asked for it, too often lately; try again in {spell_wait(wait_s)}.")

    def give_back(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Undo ``count``: this authority had no time."""
        self._peers.give_back(peer)
        for place in places_of(addresses):
            self._places.give_back(place)


class OpenStreams:
    """Conversations of one authority that are open now; those that are only turned away are not among them."""

    def __init__(self, most: int = MOST_STREAMS, of_place: int = MOST_STREAMS_OF_PLACE) -> None:
        self._most = most
        self._of_place = of_place
        self._open = 0
        self._places: Counter[str] = Counter()

    @contextmanager
    def one(self, addresses: Iterable[str]) -> Iterator[None]:
        """Hold one open with a machine that is connected from ``addresses``.

        Raises:
            Full: there are too many, in all or with machines at one of its places.
        """
        places = places_of(addresses)
        crowded = any(self._places[place] >= self._of_place for place in places)
        if crowded or self._open >= self._most:
            at_yours = " at your address" if crowded else ""
            raise Full(f"This authority talks to too many machines{at_yours} at present; try again in some minutes.")
        self._open += 1
        self._places.update(places)
        try:
            yield
        finally:
            self._open -= 1
            self._places -= Counter(places)  # drops places that nobody is left at


def spell_wait(seconds: float) -> str:
    """``190`` → ``4 minutes``; never less than what is meant."""
    if seconds <= 90:
        return f"{int(seconds) + 1} seconds"
    return f"{int(seconds / 60) + 1} minutes"
