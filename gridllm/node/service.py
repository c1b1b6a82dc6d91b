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
    Full,
    GridError,
    Malformed,
    NextHopLost,
    NodeFault,
    Refusal,
    StaleEpoch,
    UnknownSession,
)
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.callers import Callers
from gridllm.node.door import Door
from gridllm.node.neighbours import Neighbours
from gridllm.node.session import NodeSession
from gridllm.node.sessions import Sessions
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import (
    AnyMessage,
    Close,
    Leaving,
    Open,
    Ready,
    Refused,
    Resume,
    RowSlice,
    Step,
)
from gridllm.wire.slices import CHUNK_TOKENS, cut, moved, select, total_tokens
from gridllm.wire.tensor import name_of, unpack

log = logging.getLogger(__name__)

PING_CALL: Final = "gridllm.ping"
METRICS_CALL: Final = "gridllm.metrics"
SETTLE_TIMEOUT_S: Final = 30.0  # a Resume waits this long for the session's queued work
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
    ) -> None:
        """
        Args:
            gate: decides whom this node works with; None: with everybody.
            own_fault: why this node itself is not admitted now; None when it is.
        """
        self._swarm = swarm
        self._gate = gate
        self._door = Door(gate, model, name_of(engine.span.dtype), own_fault)
        self._engine = engine
        self._sessions = Sessions(engine, model)
        self._links = Callers()
        self._tasks: asyncio.TaskGroup | None = None
        self._neighbours: Neighbours | None = None
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
            _send(link, Leaving(round(grace_s)))
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
            self._tasks = tasks
            self._neighbours = Neighbours(self._swarm, tasks, self._on_neighbour_message, self._on_neighbour_lost)
            housekeeping = tasks.create_task(self._housekeeping())
            unlisten = self._gate.board.listen(self._recheck) if self._gate is not None else None
            started.set()
            await self._stopping.wait()
            if unlisten is not None:
                unlisten()
            housekeeping.cancel()
            await self._neighbours.close()
            for link in self._links:
                await link.close()
            self._sessions.clear()

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now = asyncio.get_running_loop().time()
            self._sessions.sweep(now)
            self._links.sweep()
            self._recheck()
            if self._neighbours is not None:
                await self._neighbours.sweep({PeerId(s.next.peer) for s in self._sessions if s.next}, now)
            for session in self._sessions:
                ack = session.acknowledge()
                if ack is not None:
                    _send(session.client_link, ack)

    def _recheck(self) -> None:
        """Part with neighbours that are admitted no longer, and tell the clients, once: they repair their chains."""
        for session, refusal in self._door.faults(self._sessions):
            if session.next is not None and session.next.peer == refusal.blamed:
                session.next_link = None
            if session.told_epoch != session.epoch:
                session.told_epoch = session.epoch
                _send(session.client_link, _refused(refusal, session.id))

    async def _on_stream(self, stream: Stream) -> None:
        link = Link(stream, on_message=self._on_message, opener=False)
        try:
            self._links.admit(link)
            await link.run()
        except Refusal as refusal:
            _send(link, _refused(refusal))
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
            self._on_request(link, message)
        elif isinstance(message, Close):
            self._sessions.close(SessionId(message.session), link.peer)
        else:
            kind = type(message).__name__
            _send(link, _refused(Malformed(f"A node does not take {kind} messages from a peer that opened the link.")))

    def _on_request(self, link: Link, message: Open | Resume) -> None:
        if self._tasks is None or self._stopping.is_set():
            return
        try:
            self._links.asked(link)
        except Full as full:
            _send(link, Refused(message.call, message.session, full.code, str(full)))
        else:
            self._tasks.create_task(self._answer(link, message))

    async def _answer(self, link: Link, message: Open | Resume) -> None:
        try:
            session = await (self._open(link, message) if isinstance(message, Open) else self._resume(link, message))
        except Exception as error:  # noqa: BLE001 - one request must not end the service of all others
            refusal = error if isinstance(error, Refusal) else _fault(error)
            if isinstance(refusal, NextHopLost) and message.next:
                refusal.blamed = message.next.peer
            _send(link, _refused(refusal, message.session, message.call))
        else:
            ready = Ready(message.call, session.id, session.lengths, session.step, self._engine.budget.free)
            _send(link, ready)
        finally:
            self._links.answered(link)

    async def _open(self, link: Link, opened: Open) -> NodeSession:
        self._door.check_request(opened, link.peer)
        session = self._sessions.open(opened, link)
        try:
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
        if session.next is not None and self._neighbours is not None:
            if session.next.peer == self._swarm.peer:
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
                    self._on_unsent(session, error)
                    return

    def _on_step(self, link: Link, step: Step, body: bytearray) -> None:
        session = self._sessions.get(SessionId(step.session))
        try:
            if session is None:
                raise UnknownSession("This node holds no such session; open one first.")
            span = self._engine.span
            hidden = unpack(body, tokens=total_tokens(step.rows), hidden_size=span.hidden_size, dtype=span.dtype)
            after = session.check(step, link.peer)
            self._door.check_upstream(session)
            self._engine.reserve(session.cache, step.rows, replay=step.replay)
            session.lengths, session.step = after, max(session.step, step.step)
            session.used_at = asyncio.get_running_loop().time()
            self._submit(session, step, hidden)
        except StaleEpoch:
            log.debug("Dropped a step of an older shape of the chain")
        except Refusal as refusal:
            # Only the session's own upstream may raise the client's attention; others hear it themselves.
            told = session.client_link if session is not None and link.peer == session.upstream else link
            _send(told, _refused(refusal, SessionId(step.session)))
        except Exception as error:  # noqa: BLE001 - the link carries other sessions, too
            if session is not None:
                self._fail(session, _fault(error))

    def _submit(self, session: NodeSession, step: Step, hidden: torch.Tensor) -> None:
        for piece in cut(step.rows, CHUNK_TOKENS, moved(step.rows)):
            slices = [s for s, _ in piece]
            part = select(hidden, piece)
            done = partial(self._on_computed, session, slices, step)
            self._engine.submit(session.cache, slices, part, done)
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
                self._on_unsent(session, error)

    def _on_unsent(self, session: NodeSession, error: GridError) -> None:
        """A client that is gone has noticed itself; a next hop that is gone, its client must hear of."""
        if session.next is not None:
            self._tell_next_lost(session, str(error))

    def _fail(self, session: NodeSession, error: GridError) -> None:
        """Give up a session whose rows can no longer be trusted; its client moves on to another node."""
        code = error.code if isinstance(error, Refusal) else NodeFault.code
        _send(session.client_link, Refused(None, session.id, code, str(error)[:1024]))
        self._sessions.close(session.id, session.client)

    def _on_neighbour_message(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        """A neighbour has nothing to say but that it refused a push."""
        if isinstance(message, Refused) and message.session is not None:
            session = self._sessions.get(SessionId(message.session))
            if session is not None and session.next_link is link:
                self._tell_next_lost(session, message.message)

    def _on_neighbour_lost(self, link: Link, reason: str) -> None:
        for session in self._sessions:
            if session.next_link is link:
                session.next_link = None
                self._tell_next_lost(session, reason)

    def _tell_next_lost(self, session: NodeSession, reason: str) -> None:
        peer = session.next.peer if session.next is not None else None
        text = f"The push to {peer} failed: {reason}"
        _send(session.client_link, Refused(None, session.id, NextHopLost.code, text[:1024], peer))

    async def _on_metrics(self, peer: PeerId, payload: bytes) -> bytes:
        metrics = self._engine.metrics()
        return msgspec.msgpack.encode(
            dataclasses.asdict(metrics) | {"mean_batch": metrics.mean_batch, "sessions": self.sessions}
        )


async def _echo(peer: PeerId, payload: bytes) -> bytes:
    return payload[:64]


def _fault(error: Exception) -> NodeFault:
    """What a peer is told of a failure that is this node's own; the log has the rest."""
    log.error("A request failed", exc_info=error)
    return NodeFault(f"The node failed to serve the request: {type(error).__name__}: {error}.")


def _refused(refusal: Refusal, session: bytes | None = None, call: int | None = None) -> Refused:
    return Refused(call, session, refusal.code, str(refusal)[:1024], refusal.blamed)


def _send(link: Link, message: AnyMessage, body: bytes | memoryview = b"") -> None:
    """Send to a peer that may be gone; its link's end is handled where the link runs."""
    try:
        link.send(message, body)
    except GridError as error:
        log.debug("Could not send %s to %s: %s", type(message).__name__, link.peer, error)
