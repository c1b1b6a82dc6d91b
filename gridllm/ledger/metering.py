"""Counting the tokens of a session, on both sides alike: pure, and the same however a call is cut into frames."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.count = Count()
        """Tokens so far."""
        self._call = -1  # the latest
        self._frames = 0  # of it
        self._tokens = 0  # of it
        self._rows: set[int] = set()  # of it
        self._replays: set[int] = set()  # calls that replayed steps belonged to since the last repair

    def after(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> Count:
        """What the count would be once a step's slices are in; ``call`` is its ``step`` number. Changes nothing."""
        prefill, decode = self.count
        tokens, rows = 0, set()
        for s in slices:
            tokens += s.tokens
            rows.add(s.row)
        if replay and self._is_replay(call):
            return Count(prefill + tokens, decode)
        if call == self._call and self._tokens + tokens >= LEAST_PIECE * self._frames:
            rows -= self._rows
        return Count(prefill + tokens - len(rows), decode + len(rows))

    def add(self, slices: Sequence[RowSlice], call: int, *, replay: bool = False) -> None:
        """Count a step's slices."""
        self.count = self.after(slices, call, replay=replay)
        if replay and self._is_replay(call):
            self._replays.add(call)
            return
        if call != self._call:
            self._call, self._frames, self._tokens, self._rows = call, 0, 0, set()
        self._frames += 1
        for s in slices:
            self._tokens += s.tokens
            self._rows.add(s.row)

    def replayed(self, tokens: int) -> None:
        """Count tokens that another node sent again."""
        self.count = Count(self.count.prefill + tokens, self.count.decode)

    def adopt(self, count: Count) -> None:
        """Take over the other side's lower count, after a repair in which calls got lost."""
        self.count = count
        self._call = -1
        self._replays.clear()

    def _is_replay(self, call: int) -> bool:
        return call in self._replays or len(self._replays) < MOST_REPLAYED
