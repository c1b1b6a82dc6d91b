"""Lists of results on their way, in memory: a few at a time, and a grader's oldest gives way to its newest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gridllm.errors import NotAccepted

if TYPE_CHECKING:
    from gridllm_leaderboard.messages import PutLines

MAX_RESULTS_BYTES: Final = 16 * 1024 * 1024  # 5,000 results with 64 log-likelihoods each take about 8 MB
MOST: Final = 16  # lists at once, of all graders
MOST_OF_ONE: Final = 4


class Parts:
    """What came of each list so far."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, str], bytearray] = OrderedDict()  # grader, root

    def add(self, grader: str, piece: PutLines) -> tuple[int, bytes | None]:
        """How many bytes of the list are here now, and the list once it is whole.

        A piece that does not go on where the last one ended changes nothing: the answer says from where to go on.

        Raises:
            NotAccepted: the list is too long, or longer than was said.
        """
        if piece.total > MAX_RESULTS_BYTES:
            raise NotAccepted(f"A list of {piece.total} bytes of results exceeds the cap of {MAX_RESULTS_BYTES}.")
        key = grader, piece.root
        held = self._parts.setdefault(key, bytearray())
        self._parts.move_to_end(key)
        self._make_room(grader)
        if piece.offset != len(held):
            return len(held), None
        if len(held) + len(piece.data) > piece.total or (not piece.data and len(held) < piece.total):
            del self._parts[key]
            raise NotAccepted(f"A piece of results does not fit a list of {piece.total} bytes; send it anew.")
        held += piece.data
        if len(held) < piece.total:
            return len(held), None
        del self._parts[key]
        return piece.total, bytes(held)

    def _make_room(self, grader: str) -> None:
        own = [key for key in self._parts if key[0] == grader]
        for key in own[:-MOST_OF_ONE]:
            del self._parts[key]
        while len(self._parts) > MOST:
            self._parts.popitem(last=False)
