"""How much of a keeper's time (or a leaderboard's) one peer, and one address, may take: nobody holds up the others."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gridllm.errors import SwarmError, TooSoon
from gridllm.ids import PeerId
from gridllm.swarm.places import SeenAt, places_of
from gridllm_bootstrap.limits import MOST_KEPT, Tries, spell_wait

UNITS: Final = 8192  # of one peer at once; a unit is about what one statement takes: a third of a millisecond
UNIT_EVERY_S: Final = 1 / 2048
PLACE_TIMES: Final = 2  # as many for all peers behind one address
MOST_OF_ONE: Final = 2048  # statements of one peer that are being decided: a quarter of the desk's room
PLACE_KNOWN_S: Final = 60.0  # where a peer is connected from is asked of the network so often


class Patience:
    """What is left for each."""

    def __init__(
        self,
        seen_at: SeenAt,
        *,
        units: float = UNITS,
        clock: Callable[[], float] = time.monotonic,
        who: str = "keeper",
    ) -> None:
        """``seen_at``: of the swarm; ``who``: as it calls itself."""
        self._who = who
        self._seen_at = seen_at
        self._clock = clock
        self._peers = Tries(units, clock=clock)
        self._places = Tries(units * PLACE_TIMES, clock=clock)
        self._deciding: Counter[PeerId] = Counter()
        self._known: OrderedDict[PeerId, tuple[float, set[str]]] = OrderedDict()  # where peers are, and since when

    async def spend(self, peer: PeerId, units: float) -> None:
        """Count so much work for ``peer``.

        Raises:
            TooSoon: it, or its address, had its share; says when to come again.
        """
        wait_s = self._peers.take(peer, UNIT_EVERY_S, units)
        if not wait_s:
            places = await self._at(peer)
            wait_s = max((self._places.take(one, UNIT_EVERY_S / PLACE_TIMES, units) for one in places), default=0.0)
        if wait_s:
            raise TooSoon(f"This {self._who} is busy with other callers; ask again in {spell_wait(wait_s)}.")

    @contextmanager
    def turn(self, peer: PeerId, statements: int) -> Iterator[None]:
        """Hold while so many statements of ``peer`` are decided.

        Raises:
            TooSoon: enough of them are being decided already.
        """
        if self._deciding[peer] + statements > MOST_OF_ONE:
            raise TooSoon("This keeper is still deciding other statements of yours; wait for its answer.")
        self._deciding[peer] += statements
        try:
            yield
        finally:
            self._deciding[peer] -= statements
            if not self._deciding[peer]:
                del self._deciding[peer]

    async def _at(self, peer: PeerId) -> set[str]:
        since, places = self._known.get(peer, (float("-inf"), set()))
        if self._clock() - since < PLACE_KNOWN_S:
            return places
        try:
            places = places_of(await self._seen_at(peer))
        except SwarmError:
            return places
        self._known[peer] = self._clock(), places
        self._known.move_to_end(peer)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return places
