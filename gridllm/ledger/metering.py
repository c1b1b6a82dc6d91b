"""Counting the tokens of a session, on both sides alike: pure, and the same however a call is cut into frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gridllm.ledger.prices import Count
from gridllm.wire.messages import RowSlice

MOST_REPLAYED: Final = 2  # calls between two repairs: the one that was lost and the one before; the rest is no replay


class Meter:
    """Counts what one session took through one span.

    Of the tokens that a call gives a row, the first counts as decode, the others as prefill: each call is a pass
    through the weights, so padding it with a token makes none cheaper. A call counts alike, however it is cut into
    frames. What is sent again after a repair counts as prefill.
    """

    def __init__(self) -> None:
        self._prefill = 0
        self._decode = 0
        self._calls: dict[int, int] = {}  # row → its latest call
        self._replays: set[int] = set()  # calls that replayed steps belonged to since the last repair

    @property
    def count(self) -> Count:
        """Tokens so far."""
        return Count(self._prefill, self._decode)

    def add(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> None:
        """Count a step's slices; ``call`` is its ``step`` number."""
        if replay and (call in self._replays or len(self._replays) < MOST_REPLAYED):
            self._replays.add(call)
            self._prefill += sum(s.tokens for s in slices)
            return
        for s in slices:
            first = self._calls.get(s.row) != call
            self._calls[s.row] = call
            self._decode += first
            self._prefill += s.tokens - first

    def replayed(self, tokens: int) -> None:
        """Count tokens that another node sent again."""
        self._prefill += tokens

    def adopt(self, count: Count) -> None:
        """Take over the other side's lower count, after a repair in which calls got lost."""
        self._prefill, self._decode = count
        self._calls.clear()
        self._replays.clear()


def after(meter: Meter, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> Count:
    """What the count would be once the step is in; changes nothing."""
    clone = Meter()
    clone.adopt(meter.count)
    clone._calls, clone._replays = dict(meter._calls), set(meter._replays)
    clone.add(slices, call, replay=replay)
    return clone.count
