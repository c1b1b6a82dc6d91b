"""The way of a step through this node: into the engine, and its result on to the next hop or back to the client."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import torch

from gridllm.engine.runner import Engine, Work
from gridllm.errors import GridError, NodeFault, Refusal, StaleEpoch
from gridllm.ids import SessionId
from gridllm.node.service.door import Door
from gridllm.node.service.replies import fault, refused, send, tell_unsent
from gridllm.node.service.session import NodeSession
from gridllm.node.service.sessions import Sessions
from gridllm.node.service.steps import lengths_after
from gridllm.swarm.link import Link
from gridllm.wire.messages import Refused, RowSlice, Step
from gridllm.wire.slices import CHUNK_TOKENS, cut, moved, select

log = logging.getLogger(__name__)


class Passage:
    """Takes all sessions' steps."""

    def __init__(self, engine: Engine, door: Door, sessions: Sessions) -> None:
        self._engine = engine
        self._door = door
        self._sessions = sessions

    def take_held(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        """Take a step that waited; raises nothing."""
        try:
            session.check(step, session.upstream)
            self.take(session, step, hidden)
        except Exception as error:  # noqa: BLE001 - others' steps go on
            self.decline(session, step, error, session.client_link)

    def take(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        """Take a step in: ``hidden`` [tokens, hidden_size], model dtype, CPU.

        Raises:
            Refusal: it does not fit the session, its upstream is not admitted, or there is no room.
        """
        after = lengths_after(step.rows, session.lengths)
        self._door.check_upstream(session)
        self._engine.reserve(session.cache, step.rows, replay=step.replay)
        session.lengths, session.step = after, max(session.step, step.step)
        session.used_at = asyncio.get_running_loop().time()
        bill = session.terms.bill
        if bill is not None and not bill.take(step.rows, step.step, replay=step.replay):
            session.terms.priority = 0  # nobody pays for it: after all who do
        self._submit(session, step, hidden)

    def decline(self, session: NodeSession | None, step: Step, error: Exception, told: Link) -> None:
        """A step was not taken."""
        if isinstance(error, StaleEpoch):
            log.debug("Dropped a step of an older shape of the chain")
        elif isinstance(error, Refusal):
            send(told, refused(error, SessionId(step.session)))
        elif session is not None:
            self.fail(session, fault(error))

    def _submit(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        for piece in cut(step.rows, CHUNK_TOKENS, moved(step.rows)):
            slices = [s for s, _ in piece]
            part = select(hidden, piece)
            done = partial(self._on_computed, session, slices, step)
            self._engine.submit(session.cache, slices, part, done, priority=session.terms.priority)
            session.waiting += 1
            session.idle.clear()

    def _on_computed(self, session: NodeSession, slices: list[RowSlice], step: Step, work: Work) -> None:
        session.waiting -= 1
        if not session.waiting:
            session.idle.set()
        if self._sessions.get(session.id) is not session:
            return  # closed in the meantime
        if work.output is None:
            self.fail(session, work.error or NodeFault("The engine gave no result."))
            return
        session.served.tokens += work.tokens
        session.served.passes += 1
        session.served.compute_s += work.compute_s
        session.served.queued_s += work.queued_s
        if session.replay is not None:
            session.replay.append(slices, work.output)
        # What a Resume overtook is sent from the replay buffer instead, to a next hop whose state is known.
        if step.epoch == session.epoch:
            self._push(session, slices, work.output, step)

    def _push(self, session: NodeSession, slices: list[RowSlice], hidden: torch.Tensor, step: Step) -> None:
        parcel = session.parcel(slices, hidden, step.step, replay=step.replay)
        if parcel is not None and parcel.link is not None:
            try:
                parcel.link.send(parcel.message, parcel.body)
            except GridError as error:
                tell_unsent(session, error)

    def fail(self, session: NodeSession, error: GridError) -> None:
        """Give up a session whose rows can no longer be trusted; its client moves on to another node."""
        code = error.code if isinstance(error, Refusal) else NodeFault.code
        send(session.client_link, Refused(None, session.id, code, str(error)[:1024]))
        self._sessions.close(session.id, session.client)
