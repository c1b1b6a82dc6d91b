"""Counting the tokens of a session, on both sides alike: pure, and the same however a call is cut into frames."""

from __future__ import annotations

from collections.abc import Sequence

from gridllm.ledger.prices import Count
from gridllm.wire.messages import RowSlice


class Meter:
    """Counts what one session took through one span.

    A row's only token in a call counts as decode; of several, and in replays, each counts as prefill. A call that
    reaches a node in pieces counts as it does for the client, who knew it whole: once a second token of the row comes,
    the first one counts as prefill, too.
    """

    def __init__(self) -> None:
        self._prefill = 0
        self._decode = 0
        self._calls: dict[int, tuple[int, int]] = {}  # row → (call, its tokens so far)

    @property
    def count(self) -> Count:
        """Tokens so far."""
        return Count(self._prefill, self._decode)

    def add(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> None:
        """Count a step's slices; ``call`` is its ``step`` number."""
        for s in slices:
            if replay:
                self._prefill += s.tokens
                continue
            last, before = self._calls.get(s.row, (0, 0))
            before = before if last == call else 0
            self._calls[s.row] = call, before + s.tokens
            if before + s.tokens == 1:
                self._decode += 1
            else:
                self._prefill += s.tokens + (before == 1)
                self._decode -= before == 1

    def replayed(self, tokens: int) -> None:
        """Count tokens that another node sent again."""
        self._prefill += tokens

    def adopt(self, count: Count) -> None:
        """Take over the other side's lower count, after a repair in which calls got lost."""
        self._prefill, self._decode = count
        self._calls.clear()


def after(meter: Meter, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> Count:
    """What the count would be once the step is in; changes nothing."""
    clone = Meter()
    clone.adopt(meter.count)
    clone._calls = dict(meter._calls)
    clone.add(slices, call, replay=replay)
    return clone.count
