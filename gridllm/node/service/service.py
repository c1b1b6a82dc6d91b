"""A model's data plane: takes messages that came over links, feeds the engine, pushes results on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from gridllm.admission.gate import Gatekeeper
from gridllm.engine.runner import Engine
from gridllm.errors import CertificateError, Draining, Malformed, UnknownSession
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.counter.till import Till
from gridllm.node.service.door import Door
from gridllm.node.service.neighbours import Neighbours
from gridllm.node.service.opening import Openings
from gridllm.node.service.passage import Passage
from gridllm.node.service.pausing import Pauses
from gridllm.node.service.replies import refused, send, tell_next_lost
from gridllm.node.service.session import NodeSession
from gridllm.node.service.sessions import Sessions
from gridllm.node.service.switchboard import Switchboard
from gridllm.swarm.interface import Swarm
from gridllm.swarm.link import Link
from gridllm.wire.messages import AnyMessage, Close, Leaving, Open, Pay, Refused, Resume, Step
from gridllm.wire.slices import total_tokens
from gridllm.wire.tensor import name_of, unpack

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
        switchboard: Switchboard | None = None,
    ) -> None:
        """
        Args:
            gate: decides whom this node works with; None: with everybody.
            own_fault: why this node itself is not admitted now; None when it is.
            till: where clients pay; None: nobody does.
            switchboard: where other models of this node are plugged in, too; None: this is its only one.
        """
        self.model = model
        self._swarm = swarm
        self._switchboard = switchboard if switchboard is not None else Switchboard(swarm)
        self._gate = gate
        self._door = Door(gate, model, name_of(engine.span.dtype), own_fault)
        self._engine = engine
        self._sessions = Sessions(engine, model, self._on_closed, self._switchboard.taken)
        self._passage = passage = Passage(engine, self._door, self._sessions)
        self._till = till
        self._pauses = Pauses(self._sessions, till, passage.take_held, passage.fail) if till is not None else None
        self._links = self._switchboard.links
        self._openings: Openings | None = None
        self._runner: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    @property
    def silent_tokens(self) -> int:
        """KV cache, in tokens, that a new session has though it is not free: of sessions that are silent."""
        return self._sessions.silent_tokens

    async def start(self) -> None:
        """Begin to accept links."""
        started = asyncio.Event()
        self._runner = asyncio.create_task(self._run(started))
        await started.wait()
        await self._switchboard.plug(self)

    async def drain(self, grace_s: float, *, quietly: bool = False) -> None:
        """Refuse new sessions, tell clients to move, and wait for those on the line for at most ``grace_s``.

        Args:
            quietly: tell nobody: the node stays, for another model, and this one's sessions are let end in peace.
        """
        self._sessions.draining = True
        for link in () if quietly else self._links:
            send(link, Leaving(round(grace_s)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._sessions.unused.wait()

    def holds(self, session: SessionId) -> bool:
        """See ``Line``."""
        return self._sessions.get(session) is not None

    def orphan(self, link: Link) -> None:
        """See ``Line``."""
        self._sessions.orphan(link, asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """End every session; every link, too, unless other models of this node use them."""
        self._stopping.set()
        if self._runner is not None:
            await asyncio.shield(self._runner)  # whoever waits may be cancelled: the sessions are ended all the same

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
            self._openings.end()
            await neighbours.close()
            if self._switchboard.unplug(self):
                for session in self._sessions:
                    send(session.client_link, refused(Draining("This node serves another model now."), session.id))
            else:
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

    def take(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        """See ``Line``."""
        if isinstance(message, Step):
            self._on_step(link, message, body)
        elif isinstance(message, Open | Resume):
            if self._openings is not None:
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

    def callers(self) -> Iterator[tuple[Link, PeerId]]:
        """See ``Line``."""
        return ((session.client_link, session.upstream) for session in self._sessions)

    def metrics(self) -> dict[str, Any]:
        """See ``Line``."""
        metrics = self._engine.metrics()
        earned, waiting = self._till.earnings if self._till is not None else (None, None)
        return (
            dataclasses.asdict(metrics)
            | {"mean_batch": metrics.mean_batch, "sessions": self.sessions}
            | {"earned": earned, "waiting": waiting}  # micro-credits; None where nobody pays
        )
