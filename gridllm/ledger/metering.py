"""Counting the tokens of a session, on both sides alike: pure, and the same however a call is cut into frames."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Final

from gridllm.ledger.prices import Count
from gridllm.wire.messages import RowSlice

LEAST_PIECE: Final = 64  # tokens of a call's frames, on average: they are cut at 128 (wire.slices.CHUNK_TOKENS)
MOST_REPLAYED: Final = 2  # calls between two repairs: the one that was lost and the one before; the rest is no replay


class Meter:
    """Counts what one session took through one span.

    Of the tokens that a call gives a row, the first counts as decode, the others as prefill: each call is a pass
    through the weights, so padding it with a token makes none cheaper. A call counts alike, however it is cut into
    frames; but frames of a few tokens each are no prompt that was cut, and each of them counts as a call. What is sent
    again after a repair counts as prefill.
    """

    def __init__(self) -> None:
        self._prefill = 0
        self._decode = 0
        self._call = -1  # the latest
        self._frames = 0  # of it
        self._tokens = 0  # of it
        self._rows: frozenset[int] = frozenset()  # of it
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
        tokens = sum(s.tokens for s in slices)
        if call != self._call:
            self._call, self._frames, self._tokens, self._rows = call, 0, 0, frozenset()
        self._frames += 1
        self._tokens += tokens
        rows = frozenset(s.row for s in slices)
        apart = self._tokens < LEAST_PIECE * (self._frames - 1)
        calls = len(rows) if apart else len(rows - self._rows)
        self._rows |= rows
        self._decode += calls
        self._prefill += tokens - calls

    def replayed(self, tokens: int) -> None:
        """Count tokens that another node sent again."""
        self._prefill += tokens

    def adopt(self, count: Count) -> None:
        """Take over the other side's lower count, after a repair in which calls got lost."""
        self._prefill, self._decode = count
        self._call = -1
        self._replays.clear()


def after(meter: Meter, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> Count:
    """What the count would be once the step is in; changes nothing."""
    clone = copy(meter)
    clone._replays = set(meter._replays)
    clone.add(slices, call, replay=replay)
    return clone.count
