"""Opening and resuming sessions: each request is checked, its next hop reached, and what that lacks sent again."""

from __future__ import annotations

import asyncio
from typing import Final

from gridllm.engine.runner import Engine
from gridllm.errors import Draining, Full, GridError, Malformed, NextHopLost, NodeFault, Refusal, StaleEpoch
from gridllm.ids import SessionId
from gridllm.ledger.prices import Count
from gridllm.node.counter.till import Terms, Till
from gridllm.node.service.callers import Callers
from gridllm.node.service.door import Door
from gridllm.node.service.neighbours import Neighbours
from gridllm.node.service.pausing import Pauses
from gridllm.node.service.replies import fault, refused, send, tell_unsent
from gridllm.node.service.session import NodeSession
from gridllm.node.service.sessions import Sessions
from gridllm.swarm.link import Link
from gridllm.wire.messages import Open, Ready, Resume

ENDED: Final = "This node stops serving the model; try another."
SETTLE_TIMEOUT_S: Final = 30.0  # a Resume waits this long for the session's queued work


class Openings:
    """Answers the clients' requests to open and to resume sessions."""

    def __init__(
        self,
        engine: Engine,
        door: Door,
        sessions: Sessions,
        callers: Callers,
        neighbours: Neighbours,
        tasks: asyncio.TaskGroup,
        till: Till | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        """
        Args:
            tasks: where the requests are answered, each beside the others.
            till: decides who is served on which terms; None: everybody, and nothing is metered.
        """
        self._engine = engine
        self._door = door
        self._sessions = sessions
        self._callers = callers
        self._neighbours = neighbours
        self._tasks = tasks
        self._till = till
        self._pauses = pauses
        self._answering: set[asyncio.Task[None]] = set()
        self._ended = False

    def take(self, link: Link, message: Open | Resume) -> None:
        """Answer a request in a task of its own."""
        try:
            if self._ended:
                raise Draining(ENDED)
            self._callers.asked(link)
        except (Draining, Full) as refusal:
            send(link, refused(refusal, message.session, message.call))
            return
        task = self._tasks.create_task(self._answer(link, message))
        self._answering.add(task)
        task.add_done_callback(lambda done: self._answered(link, done))

    def end(self) -> None:
        """Answer no more requests, nor those under way: they would open links that nobody ends, and wait for work that
        the engine dropped.
        """
        self._ended = True
        for task in list(self._answering):
            task.cancel()

    def _answered(self, link: Link, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._callers.answered(link)

    async def _answer(self, link: Link, message: Open | Resume) -> None:
        try:
            session = await (self._open(link, message) if isinstance(message, Open) else self._resume(link, message))
        except Exception as error:  # noqa: BLE001 - one request must not end the service of all others
            refusal = error if isinstance(error, Refusal) else fault(error)
            if isinstance(refusal, NextHopLost) and message.next:
                refusal.blamed = message.next.peer
            send(link, refused(refusal, message.session, message.call))
        except asyncio.CancelledError:
            send(link, refused(Draining(ENDED), message.session, message.call))
            raise
        else:
            count = session.terms.bill.meter.count if session.terms.bill is not None else Count()
            send(link, Ready(message.call, session.id, session.lengths, session.step, self._engine.budget.free, *count))

    async def _open(self, link: Link, opened: Open) -> NodeSession:
        self._door.check_request(opened, link.peer)
        terms = Terms()
        if self._till is not None:
            self._sessions.check(opened, link.peer)  # before signatures are verified
            terms = await self._till.admit(opened, link.peer)
        session = self._sessions.open(opened, link, terms.priority)
        session.terms = terms
        try:
            if self._till is not None and terms.bill is not None:
                self._till.begin(terms.bill)
            await self._reach_next(session)
        except BaseException:
            self._sessions.close(session.id, link.peer)
            raise
        return session

    async def _resume(self, link: Link, resumed: Resume) -> NodeSession:
        session = self._sessions.of_client(SessionId(resumed.session), link.peer)
        if len(resumed.need) != len(session.lengths):
            raise Malformed(f"Resume names {len(resumed.need)} rows; the session has {len(session.lengths)}.")
        if len(resumed.valid) not in (0, len(session.lengths)):
            raise Malformed(f"Resume calls {len(resumed.valid)} rows valid; the session has {len(session.lengths)}.")
        if resumed.epoch <= session.epoch:
            raise StaleEpoch(f"Resume is of epoch {resumed.epoch} and the session is at {session.epoch} already.")
        self._door.check_request(resumed, link.peer)
        self._sessions.rejoin(session, link)
        session.epoch = resumed.epoch  # from here on, what was sent in the old shape is stale
        if self._pauses is not None:
            self._pauses.resumed(session)
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await session.idle.wait()
        except TimeoutError:
            raise NodeFault(f"The session's queued work did not finish within {SETTLE_TIMEOUT_S:.0f} s.") from None
        if session.epoch != resumed.epoch:
            raise StaleEpoch(f"Resume is of epoch {resumed.epoch} and another one, of {session.epoch}, overtook it.")
        session.resume(resumed)
        await self._reach_next(session)
        await self._replay(session)
        return session

    async def _reach_next(self, session: NodeSession) -> None:
        session.next_link = None
        if session.next is not None:
            if session.next.peer == self._neighbours.own:
                raise Malformed("The next hop of the session is this node itself.")
            epoch = session.epoch
            link = await self._neighbours.link(session.next)
            if session.epoch != epoch:
                raise StaleEpoch(f"While this node was dialling, the session went on to epoch {session.epoch}.")
            session.next_link = link

    async def _replay(self, session: NodeSession) -> None:
        """Send again what the next hop lacks, as fast as it takes it.

        The Resume is answered afterwards only: until then nobody sends this session anything new, so rows stand still.
        """
        epoch = session.epoch
        for slices, hidden in session.again():
            parcel = session.parcel(slices, hidden, session.step, replay=True)
            if session.epoch != epoch:
                return  # another repair took over
            if parcel is not None and parcel.link is not None:
                try:
                    await parcel.link.send_paced(parcel.message, parcel.body)
                except GridError as error:
                    tell_unsent(session, error)
                    return
