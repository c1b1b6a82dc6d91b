"""Who gives way when all places of a pool are taken and another peer wants one: no clock, no network.

What a peer takes or brings buys it time, as in a web server that asks for a least rate; whoever has none left goes
first. Where all are at work, the most crowded address goes: peers' names cost nothing, addresses do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Terms:
    """On which a place of one pool is held while others want it. While nobody does, they bind nobody."""

    first_s: float  # from being given the place to the first message
    bytes_per_s: float  # so many bytes buy a second
    least_s: float  # any message buys this much, however small it is
    most_s: float  # nobody has more than this much in hand
    turn_s: float  # who shares an address with most of the others gives way after so long, at work or not

    def bought(self, left_s: float, nbytes: int) -> float:
        """What is left to a peer that had ``left_s``, after a message of ``nbytes``."""
        return min(self.most_s, max(0.0, left_s) + max(self.least_s, nbytes / self.bytes_per_s))


class Holder(NamedTuple):
    """Whoever has a place."""

    left_s: float  # of its time; below 0: others may have the place
    held_s: float  # since it was given the place
    places: Collection[str] = ()  # that it is connected from (``swarm.places``)
    first: bool = False  # one of those who go before strangers


def who_gives_way(holders: Collection[Holder], places: Collection[str], turn_s: float) -> int | None:
    """The number of the holder whose place a peer of ``places`` gets; None: all are to stay."""
    overdue = [(holder.first, holder.left_s, number) for number, holder in enumerate(holders) if holder.left_s < 0]
    if overdue:
        return min(overdue)[2]
    crowd = Counter(place for holder in holders if not holder.first for place in set(holder.places))
    mine = max((crowd[place] for place in places), default=0)
    crowded = [
        (crowd[place], holder.held_s, number)
        for number, holder in enumerate(holders)
        for place in holder.places
        if not holder.first and holder.held_s >= turn_s and crowd[place] >= mine + 2  # so that both do not take turns
    ]
    return max(crowded)[2] if crowded else None
