"""The node's data plane: takes messages off links, feeds the engine, pushes results on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from gridllm.admission.gate import Gatekeeper
from gridllm.engine.runner import Engine
from gridllm.errors import (
    CertificateError,
    GridError,
    Malformed,
    Refusal,
    UnknownSession,
)
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.callers import Callers
from gridllm.node.door import Door
from gridllm.node.neighbours import Neighbours
from gridllm.node.opening import Openings
from gridllm.node.passage import Passage
from gridllm.node.pausing import Pauses
from gridllm.node.replies import refused, send, tell_next_lost
from gridllm.node.session import NodeSession
from gridllm.node.sessions import Sessions
from gridllm.node.till import Till
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Close, Leaving, Open, Pay, Refused, Resume, Step
from gridllm.wire.slices import total_tokens
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
        self._passage = passage = Passage(engine, self._door, self._sessions)
        self._till = till
        self._pauses = Pauses(self._sessions, till, passage.take_held, passage.fail) if till is not None else None
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
                self._passage.take(session, step, hidden)
        except Exception as error:  # noqa: BLE001 - the link carries other sessions, too
            # Only the session's own upstream may raise the client's attention; others hear it themselves.
            own = session is not None and link.peer == session.upstream
            self._passage.decline(session, step, error, session.client_link if session is not None and own else link)

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
        earned, waiting = self._till.earnings if self._till is not None else (None, None)
        return msgspec.msgpack.encode(
            dataclasses.asdict(metrics)
            | {"mean_batch": metrics.mean_batch, "sessions": self.sessions}
            | {"earned": earned, "waiting": waiting}  # micro-credits; None where nobody pays
        )


async def _echo(peer: PeerId, payload: bytes) -> bytes:
    return payload[:64]
