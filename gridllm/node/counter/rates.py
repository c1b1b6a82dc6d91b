"""How many signatures strangers may have this node verify: each stops the event loop for a moment."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gridllm.ids import PeerId

PEER_PER_S: Final = 150.0  # of one client, in the long run: vouchers of as many sessions as it may hold open here
PEER_BURST: Final = 600.0  # at once: those sessions opened together
ALL_PER_S: Final = 300.0  # of everybody: identities cost nothing
ALL_BURST: Final = 1200.0
SPARE: Final = ALL_BURST / 2  # of that, what only open sessions may use: their vouchers wait for no stranger's Open
MOST_KEPT: Final = 4096  # clients that are remembered; the longest unseen are forgotten


class Rates:
    """Verifications that each client, and all together, have left."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()  # left, and when
        self._all = ALL_BURST, clock()

    def take(self, peer: PeerId, count: int = 1, *, spare: float = 0.0) -> bool:
        """Whether ``count`` may be verified for the peer now, and ``spare`` for others; if so, they are counted."""
        now = self._clock()
        own, everyones = self._peers.pop(peer, (PEER_BURST, now)), self._all
        left = min(PEER_BURST, own[0] + (now - own[1]) * PEER_PER_S)
        left_all = min(ALL_BURST, everyones[0] + (now - everyones[1]) * ALL_PER_S)
        granted = left >= count and left_all >= count + spare
        taken = count if granted else 0
        self._peers[peer], self._all = (left - taken, now), (left_all - taken, now)
        while len(self._peers) > MOST_KEPT:
            self._peers.popitem(last=False)
        return granted
