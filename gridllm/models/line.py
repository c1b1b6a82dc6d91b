"""How many streams share a line that may be too slow for all of them: no clock, no network.

A seed gives a stream that takes little to somebody else, and a piece that comes late ties up others' tensors: so half
of the streams end when pieces come too slowly, until the rest are quick enough.
"""

from __future__ import annotations

from typing import Final

ONCE_S: Final = 20.0  # those who notice together are one notice


class Line:
    """``join``, ``leave``, and at each piece that is late ``gives_up``."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Streams that fit, as far as is known."""
        self._all = most
        self._hands: set[object] = set()
        self._halved_at = float("-inf")

    def join(self, hand: object) -> None:
        """One more stream."""
        self._hands.add(hand)

    def leave(self, hand: object) -> None:
        """It ended."""
        self._hands.discard(hand)

    def gives_up(self, hand: object, now_s: float) -> bool:
        """Whether a stream whose piece is late leaves the line to the others. The last one stays."""
        if now_s - self._halved_at >= ONCE_S:
            self.most, self._halved_at = max(1, len(self._hands) // 2), now_s
        if len(self._hands) <= self.most:
            return False
        self._hands.discard(hand)
        return True

    def recover(self) -> None:
        """Some time has passed: the line may be quicker by now."""
        self.most = min(self._all, 2 * self.most)
