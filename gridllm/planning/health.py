"""What a client remembers about nodes that failed it: how long to stay away, and when to trust again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gridllm.ids import PeerId

FIRST_BAN_S: Final = 30.0  # a dead node's last record lives for so long, and dialling it costs seconds
LONGEST_BAN_S: Final = 600.0
HALF_LIFE_S: Final = 300.0  # strikes halve in this time, so an old failure weighs little


@dataclass(frozen=True, slots=True)
class _Trouble:
    strikes: float  # at ``at_s``
    at_s: float  # when the last failure was noted
    until_s: float  # end of the ban


class Health:
    """Failures per peer. Every method takes the time, in seconds of any clock that only runs forward."""

    def __init__(self) -> None:
        self._troubles: dict[PeerId, _Trouble] = {}

    def failed(self, peer: PeerId, now_s: float) -> float:
        """Note a failure; returns how long the peer is banned, seconds. Each strike doubles the ban."""
        strikes = self.strikes(peer, now_s) + 1.0
        ban_s = min(FIRST_BAN_S * math.pow(2.0, strikes - 1.0), LONGEST_BAN_S)
        self._troubles[peer] = _Trouble(strikes, now_s, now_s + ban_s)
        return ban_s

    def succeeded(self, peer: PeerId) -> None:
        """The peer did its work: it is free at once, and its next failure counts half of what it would have."""
        trouble = self._troubles.get(peer)
        if trouble is None:
            return
        if trouble.strikes < 1.0:
            del self._troubles[peer]
        else:
            self._troubles[peer] = _Trouble(trouble.strikes / 2, trouble.at_s, trouble.at_s)

    def strikes(self, peer: PeerId, now_s: float) -> float:
        """Failures held against the peer, faded by time."""
        trouble = self._troubles.get(peer)
        if trouble is None:
            return 0.0
        return trouble.strikes * math.pow(0.5, max(0.0, now_s - trouble.at_s) / HALF_LIFE_S)

    def banned(self, now_s: float) -> frozenset[PeerId]:
        """Peers to leave out of the next chain; forgets those whose strikes have faded away."""
        faded = [
            peer
            for peer, trouble in self._troubles.items()
            if now_s >= trouble.until_s and self.strikes(peer, now_s) < 0.1
        ]
        for peer in faded:
            del self._troubles[peer]
        return frozenset(peer for peer, trouble in self._troubles.items() if now_s < trouble.until_s)
