"""Sessions that wait for a voucher: their steps are held, in order, and go on when it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

import torch

from gridllm.errors import BadPayment, GridError, UnknownSession, Unpaid
from gridllm.ids import PeerId, SessionId
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.till import Till
from gridllm.node.service.replies import refused, send
from gridllm.node.service.session import Held, NodeSession
from gridllm.node.service.sessions import Sessions
from gridllm.swarm.link import Link
from gridllm.wire.messages import Owing, Pay, Step

log = logging.getLogger(__name__)

UNPAID_S: Final = 30.0  # a session whose step waits this long for a voucher ends
HELD_BYTES: Final = 64 * 1024**2  # of all sessions; beyond that the one that waits longest ends
SESSION_BYTES: Final = 32 * 1024**2  # of one session, unless a single step is larger
SESSION_STEPS: Final = 1024  # of one session
STEP_BYTES: Final = 4096  # what a held step takes beside its hidden states


class Pauses:
    """All paused sessions of a node."""

    def __init__(
        self,
        sessions: Sessions,
        till: Till,
        take: Callable[[NodeSession, Step, torch.Tensor], None],
        fail: Callable[[NodeSession, GridError], None],
    ) -> None:
        """
        Args:
            take: takes a step in that was held; it raises nothing.
            fail: ends a session, and tells its client why.
        """
        self._sessions = sessions
        self._till = till
        self._take = take
        self._fail = fail
        self._bytes = 0
        self._unread: dict[SessionId, None] = {}  # sessions whose payment waits to be verified, in order

    def holds(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> bool:
        """Whether the step must wait; if so it is kept, and the client told what for."""
        bill = session.terms.bill
        if bill is None:
            return False
        if not session.held:
            if bill.allows(step.rows, step.step, replay=step.replay, now_s=self._till.clock()):
                return False
            session.held_since = asyncio.get_running_loop().time()
        held = Held(step, hidden)
        session.held.append(held)
        self._count(session, _size(held))
        if len(session.held) == 1:
            self._tell(session, bill)
        elif len(session.held) > SESSION_STEPS or session.held_bytes > SESSION_BYTES:
            self._end(session, "more of its steps came than this node keeps for a session that is not paid for")
        while self._bytes > HELD_BYTES and (longest := min(self._paused(), key=_since, default=None)) is not None:
            self._end(longest, "this node keeps too many steps that are not paid for")
        return True

    def pay(self, link: Link, message: Pay) -> None:
        """Take what a client pays for its own session."""
        try:
            session = self._sessions.of_client(SessionId(message.session), link.peer)
        except UnknownSession:
            log.debug("A payment of %s came after its session", link.peer)
            return
        if session.terms.bill is not None:
            if session.unread is not None:
                message = _merged(session.unread, message)
            session.unread = message
            self._unread.setdefault(session.id)
            self._read_on()

    def resumed(self, session: NodeSession) -> None:
        """The chain was repaired: what came in its old shape is dropped, and was not counted."""
        self._drop(session)
        if session.terms.bill is not None:
            session.terms.bill.resume()

    def closed(self, session: NodeSession, by_client: bool) -> None:
        """A session ended."""
        bill = session.terms.bill
        if bill is None:
            return
        self._read(session)
        self._drop(session)
        self._till.shut(bill, by_client=by_client)

    def sweep(self, now: float) -> None:
        """Once a second: read payments that had to wait, end sessions whose payment did not come."""
        self._read_on()
        for session in self._paused():
            if now - session.held_since > UNPAID_S:
                self._end(session, f"no voucher came within {UNPAID_S:.0f} s")

    def _paused(self) -> Iterator[NodeSession]:
        return (session for session in self._sessions if session.held)

    def _read_on(self) -> None:
        """Verify what clients sent, in its order; one that sends too much waits and holds up nobody else."""
        full: set[PeerId] = set()
        for waiting in list(self._unread):
            session = self._sessions.get(waiting)
            if session is None or session.unread is None:
                self._unread.pop(waiting, None)
            elif session.client not in full:
                if self._till.affords(session.client, session.unread):
                    self._read(session)
                else:
                    full.add(session.client)

    def _read(self, session: NodeSession) -> None:
        """Verify what the session's client sent."""
        message, bill = session.unread, session.terms.bill
        self._unread.pop(session.id, None)
        if message is None or bill is None:
            return
        session.unread = None
        before = bill.cover
        try:
            self._till.pay(session.terms, bill, message)
        except BadPayment as refusal:
            send(session.client_link, refused(refusal, session.id))
        if bill.cover != before and self._sessions.get(session.id) is session:
            self._go_on(session, bill)

    def _go_on(self, session: NodeSession, bill: Bill) -> None:
        """Take the held steps that are paid for now."""
        moved = False
        while session.held:
            step, hidden = session.held[0]
            if not bill.allows(step.rows, step.step, replay=step.replay, now_s=self._till.clock()):
                if moved:
                    session.held_since = asyncio.get_running_loop().time()
                self._tell(session, bill)
                return
            self._count(session, -_size(session.held.popleft()))
            self._take(session, step, hidden)
            moved = True

    def _tell(self, session: NodeSession, bill: Bill) -> None:
        """Tell the client what the first held step waits for."""
        step = session.held[0].step
        due = bill.owing(step.rows, step.step, replay=step.replay, now_s=self._till.clock())
        count = bill.meter.count
        send(session.client_link, Owing(session.id, count.prefill, count.decode, due.micro, due.text[:1024]))

    def _end(self, session: NodeSession, why: str) -> None:
        bill = session.terms.bill
        text = ""
        if bill is not None and session.held:
            step = session.held[0].step
            text = bill.owing(step.rows, step.step, replay=step.replay, now_s=self._till.clock()).text
        self._fail(session, Unpaid(f"The session ended, because {why}. {text}"))

    def _drop(self, session: NodeSession) -> None:
        session.held.clear()
        self._count(session, -session.held_bytes)

    def _count(self, session: NodeSession, nbytes: int) -> None:
        session.held_bytes += nbytes
        self._bytes += nbytes


def _size(held: Held) -> int:
    return held.hidden.nbytes + STEP_BYTES


def _since(session: NodeSession) -> float:
    return session.held_since


def _merged(older: Pay, newer: Pay) -> Pay:
    """Both: of each kind the newer counts."""
    return Pay(
        newer.session, newer.voucher or older.voucher, newer.escrow or older.escrow, newer.access or older.access
    )
