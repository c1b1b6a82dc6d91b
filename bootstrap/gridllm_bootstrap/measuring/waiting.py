"""The authority's waiting room: how many are examined together, who is next, and who went away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from gridllm.errors import Full
from gridllm.swarm.giving_way import Holder, who_gives_way
from gridllm.tasks import end

AT_ONCE: Final = 2  # more share the line and the checking thread, and each is measured as slower than it is
MOST_WAITING: Final = 64  # each holds a stream; the last one's turn comes in about a quarter of an hour
TELL_EVERY_S: Final = 3.0  # a candidate that hears nothing thinks the authority is gone


class Ticket:
    """One candidate's place."""

    def __init__(self, homes: frozenset[str] = frozenset()) -> None:
        self.homes = homes  # hosts or relays that it calls from (``limits.places_of``)
        self.gone = False  # another one has its place
        self.changed = asyncio.Event()
        """Set whenever ``WaitingRoom.place`` may say something else."""


class WaitingRoom:
    """First come, first served; ``at_once`` are examined together.

    Of those behind one address, one is examined while others wait, and they fill half of the queue at most. When it is
    full, the last of the most crowded address gives way: whoever has many identities and answers slowly keeps nobody
    else out.
    """

    def __init__(self, at_once: int = AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._waiting: list[Ticket] = []
        self._examined: set[Ticket] = set()

    @property
    def waiting(self) -> int:
        """How many wait, without those that are examined."""
        return len(self._waiting)

    @property
    def examined(self) -> int:
        """How many are examined."""
        return len(self._examined)

    @asynccontextmanager
    async def visit(self, homes: Iterable[str] = ()) -> AsyncIterator[Ticket]:
        """A place in the queue, until the block is left.

        Args:
            homes: hosts or relays that the candidate calls from.

        Raises:
            Full: too many wait already, in all or of those behind the same address.
        """
        ticket = Ticket(frozenset(homes))
        crowd = max((sum(home in one.homes for one in self._waiting) for home in ticket.homes), default=0)
        if 2 * crowd >= self._most_waiting:
            raise Full(f"{crowd} machines at your address wait to be measured here already; try again in some minutes.")
        full = len(self._examined) >= self._at_once and len(self._waiting) >= self._most_waiting
        if full and not self._displaces(ticket):
            raise Full(f"{len(self._waiting)} machines wait to be measured here already; try again in some minutes.")
        self._waiting.append(ticket)
        self._move_up()
        try:
            yield ticket
        finally:
            if ticket in self._examined:
                self._examined.remove(ticket)
            elif not ticket.gone:
                self._waiting.remove(ticket)
            self._move_up()

    def place(self, ticket: Ticket) -> int:
        """0: it is this one's turn; 1: it is next; and so on."""
        return 0 if ticket in self._examined else 1 + self._waiting.index(ticket)

    async def turn(
        self,
        ticket: Ticket,
        tell: Callable[[int, int], Awaitable[None]],
        spoke: Callable[[], Awaitable[object]],
    ) -> object | None:
        """Wait for this one's turn; None when it is there, else what ``spoke`` returned, since nobody speaks in here.

        Args:
            tell: given place and number of those who wait, at each change and every ``TELL_EVERY_S``.
            spoke: returns when the candidate said something; raises when it went away, and so does this.

        Raises:
            Full: others came, and most of those who wait are at its address.
        """
        listening = asyncio.ensure_future(spoke())
        try:
            while not ticket.gone and (place := self.place(ticket)):
                ticket.changed.clear()
                await tell(place, self.waiting)
                moved = asyncio.ensure_future(ticket.changed.wait())
                try:
                    await asyncio.wait({listening, moved}, timeout=TELL_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
                if listening.done():
                    return listening.result()
            if ticket.gone:
                raise Full("Others wait to be measured, and most are at your address; try again in some minutes.")
            return listening.result() if listening.done() else None
        finally:
            await end(listening)

    def _displaces(self, ticket: Ticket) -> bool:
        """Whether one who waits gives its place to this one: the last of the most crowded address."""
        waiting = [Holder(0.0, float(number), one.homes) for number, one in enumerate(self._waiting)]
        number = who_gives_way(waiting, ticket.homes, turn_s=0.0)
        if number is None:
            return False
        gone = self._waiting.pop(number)
        gone.gone = True
        gone.changed.set()
        return True

    def _move_up(self) -> None:
        while self._waiting and len(self._examined) < self._at_once:
            served = frozenset[str]().union(*(one.homes for one in self._examined))
            turn = next((one for one in self._waiting if not one.homes & served), self._waiting[0])
            self._waiting.remove(turn)
            self._examined.add(turn)
            # those behind learn their new place, and this one that it is its turn
        for ticket in (*self._waiting, *self._examined):
            ticket.changed.set()
