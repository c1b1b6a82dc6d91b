"""The node's data plane: takes messages off links, feeds the engine, pushes results on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import torch

from gridllm.admission.gate import Gatekeeper
from gridllm.engine.runner import Engine, Work
from gridllm.errors import (
    CertificateError,
    GridError,
    Malformed,
    NodeFault,
    Refusal,
    StaleEpoch,
    UnknownSession,
)
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.callers import Callers
from gridllm.node.door import Door
from gridllm.node.neighbours import Neighbours
from gridllm.node.opening import Openings
from gridllm.node.pausing import Pauses
from gridllm.node.replies import fault, refused, send, tell_next_lost, tell_unsent
from gridllm.node.session import NodeSession
from gridllm.node.sessions import Sessions
from gridllm.node.steps import lengths_after
from gridllm.node.till import Till
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Close, Leaving, Open, Pay, Refused, Resume, RowSlice, Step
from gridllm.wire.slices import CHUNK_TOKENS, cut, moved, select, total_tokens
from gridllm.wire.tensor import name_of, unpack

log = logging.getLogger(__name__)

PING_CALL: Final = "gridllm.ping"
METRICS_CALL: Final = "gridllm.metrics"
HOUSEKEEPING_S: Final = 1.0  # between acks and sweeps for abandoned sessions


class NodeService:
    """Serves a span to clients and neighbours."""

    def __init__(
        self,
        swarm: Swarm,
        engine: Engine,
        model: ModelRoot,
        gate: Gatekeeper | None = None,
        own_fault: Callable[[], CertificateError | None] = lambda: None,
        till: Till | None = None,
    ) -> None:
        """
        Args:
            gate: decides whom this node works with; None: with everybody.
            own_fault: why this node itself is not admitted now; None when it is.
            till: where clients pay; None: nobody does.
        """
        self._swarm = swarm
        self._gate = gate
        self._door = Door(gate, model, name_of(engine.span.dtype), own_fault)
        self._engine = engine
        self._sessions = Sessions(engine, model, self._on_closed)
        self._till = till
        self._pauses = Pauses(self._sessions, till, self._take_held, self._fail) if till is not None else None
        self._links = Callers()
        self._openings: Openings | None = None
        self._runner: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Begin to accept links."""
        started = asyncio.Event()
        self._runner = asyncio.create_task(self._run(started))
        await started.wait()
        await self._swarm.serve_streams(LINK_STREAM, self._on_stream)
        await self._swarm.serve_calls(PING_CALL, _echo)
        await self._swarm.serve_calls(METRICS_CALL, self._on_metrics)

    async def drain(self, grace_s: float) -> None:
        """Refuse new sessions, tell clients to move, and wait for those on the line for at most ``grace_s``."""
        self._sessions.draining = True
        for link in self._links:
            send(link, Leaving(round(grace_s)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._sessions.unused.wait()

    async def stop(self) -> None:
        """End every link and session."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner

    async def _run(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            neighbours = Neighbours(self._swarm, tasks, self._on_neighbour_message, self._on_neighbour_lost)
            self._openings = Openings(
                self._engine, self._door, self._sessions, self._links, neighbours, tasks, self._till, self._pauses
            )
            housekeeping = tasks.create_task(self._housekeeping(neighbours))
            unlisten = self._gate.board.listen(self._recheck) if self._gate is not None else None
            started.set()
            await self._stopping.wait()
            if unlisten is not None:
                unlisten()
            housekeeping.cancel()
            await neighbours.close()
            for link in self._links:
                await link.close()
            self._sessions.clear()

    async def _housekeeping(self, neighbours: Neighbours) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now = asyncio.get_running_loop().time()
            self._sessions.sweep(now)
            if self._pauses is not None:
                self._pauses.sweep(now)
            self._links.sweep()
            self._recheck()
            await neighbours.sweep({PeerId(s.next.peer) for s in self._sessions if s.next}, now)
            for session in self._sessions:
                ack = session.acknowledge()
                if ack is not None:
                    send(session.client_link, ack)

    def _recheck(self) -> None:
        """Part with neighbours that are admitted no longer, and tell the clients, once: they repair their chains."""
        for session, refusal in self._door.faults(self._sessions):
            if session.next is not None and session.next.peer == refusal.blamed:
                session.next_link = None
            if session.told_epoch != session.epoch:
                session.told_epoch = session.epoch
                send(session.client_link, refused(refusal, session.id))

    async def _on_stream(self, stream: Stream) -> None:
        link = Link(stream, on_message=self._on_message, opener=False)
        try:
            self._links.admit(link)
            await link.run()
        except Refusal as refusal:
            send(link, refused(refusal))
        except GridError as error:
            log.info("Link of %s ended: %s", link.peer, error)
        except Exception:
            log.exception("Link of %s failed", link.peer)
        finally:
            self._links.discard(link)
            self._sessions.orphan(link, asyncio.get_running_loop().time())
            await link.close()

    def _on_message(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        if isinstance(message, Step):
            self._on_step(link, message, body)
        elif isinstance(message, Open | Resume):
            if self._openings is not None and not self._stopping.is_set():
                self._openings.take(link, message)
        elif isinstance(message, Close):
            self._sessions.close(SessionId(message.session), link.peer, by_client=True)
        elif isinstance(message, Pay):
            if self._pauses is not None:
                self._pauses.pay(link, message)
        else:
            kind = type(message).__name__
            send(link, refused(Malformed(f"A node does not take {kind} messages from a peer that opened the link.")))

    def _on_step(self, link: Link, step: Step, body: bytearray) -> None:
        session = self._sessions.get(SessionId(step.session))
        try:
            if session is None:
                raise UnknownSession("This node holds no such session; open one first.")
            span = self._engine.span
            hidden = unpack(body, tokens=total_tokens(step.rows), hidden_size=span.hidden_size, dtype=span.dtype)
            session.check(step, link.peer)
            if self._pauses is None or not self._pauses.holds(session, step, hidden):
                self._take(session, step, hidden)
        except Exception as error:  # noqa: BLE001 - the link carries other sessions, too
            # Only the session's own upstream may raise the client's attention; others hear it themselves.
            own = session is not None and link.peer == session.upstream
            self._decline(session, step, error, session.client_link if session is not None and own else link)

    def _take_held(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        try:
            session.check(step, session.upstream)
            self._take(session, step, hidden)
        except Exception as error:  # noqa: BLE001 - others' steps go on
            self._decline(session, step, error, session.client_link)

    def _take(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        """Raises Refusal: the step does not fit the session, or there is no room."""
        after = lengths_after(step.rows, session.lengths)
        self._door.check_upstream(session)
        self._engine.reserve(session.cache, step.rows, replay=step.replay)
        session.lengths, session.step = after, max(session.step, step.step)
        session.used_at = asyncio.get_running_loop().time()
        if session.terms.bill is not None:
            session.terms.bill.take(step.rows, step.step, replay=step.replay)
        self._submit(session, step, hidden)

    def _decline(self, session: NodeSession | None, step: Step, error: Exception, told: Link) -> None:
        if isinstance(error, StaleEpoch):
            log.debug("Dropped a step of an older shape of the chain")
        elif isinstance(error, Refusal):
            send(told, refused(error, SessionId(step.session)))
        elif session is not None:
            self._fail(session, fault(error))

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
            self._fail(session, work.error or NodeFault("The engine gave no result."))
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

    def _fail(self, session: NodeSession, error: GridError) -> None:
        """Give up a session whose rows can no longer be trusted; its client moves on to another node."""
        code = error.code if isinstance(error, Refusal) else NodeFault.code
        send(session.client_link, Refused(None, session.id, code, str(error)[:1024]))
        self._sessions.close(session.id, session.client)

    def _on_closed(self, session: NodeSession, by_client: bool) -> None:
        if self._pauses is not None:
            self._pauses.closed(session, by_client)

    def _on_neighbour_message(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        """A neighbour has nothing to say but that it refused a push."""
        if isinstance(message, Refused) and message.session is not None:
            session = self._sessions.get(SessionId(message.session))
            if session is not None and session.next_link is link:
                tell_next_lost(session, message.message)

    def _on_neighbour_lost(self, link: Link, reason: str) -> None:
        for session in self._sessions:
            if session.next_link is link:
                session.next_link = None
                tell_next_lost(session, reason)

    async def _on_metrics(self, peer: PeerId, payload: bytes) -> bytes:
        metrics = self._engine.metrics()
        return msgspec.msgpack.encode(
            dataclasses.asdict(metrics) | {"mean_batch": metrics.mean_batch, "sessions": self.sessions}
        )


async def _echo(peer: PeerId, payload: bytes) -> bytes:
    return payload[:64]
