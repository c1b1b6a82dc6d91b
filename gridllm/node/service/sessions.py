"""The sessions a node holds: who may open, resume and close them, and when abandoned ones are freed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from gridllm.engine.runner import Engine
from gridllm.errors import Draining, Full, Malformed, SessionExists, UnknownSession, WrongModel, WrongSpan
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.service.session import NodeSession
from gridllm.swarm.link import Link
from gridllm.wire.messages import Open
from gridllm.wire.tensor import name_of

MAX_SESSIONS: Final = 1024
MAX_SESSIONS_PER_CLIENT: Final = 256
SILENT_S: Final = 60.0  # without a step: it gives way to a session of its class, or a higher one, that needs the room
MAX_IDLE_S: Final = 600.0  # without a step; its client can open it anew and replay
LINGER_S: Final = 30.0  # a session whose client's link broke waits this long for it to come back
HIGHEST: Final = 2**31  # class: above all that there are
REPLAY_BYTES: Final = 256 * 1024**2  # of all sessions; the largest buffer goes first


class Sessions:
    """All sessions of a node, by id."""

    def __init__(
        self,
        engine: Engine,
        model: ModelRoot,
        on_close: Callable[[NodeSession, bool], None] | None = None,
        taken: set[SessionId] | None = None,
    ) -> None:
        """
        Args:
            on_close: hears of each session that ends, and whether its client said so.
            taken: ids that are in use at any model of this node; kept up to date here.
        """
        self._engine = engine
        self._model = model
        self._on_close = on_close
        self._by_id: dict[SessionId, NodeSession] = {}
        self._taken = taken if taken is not None else set()
        self.draining = False
        self.unused = asyncio.Event()  # set while no session has a client on the line
        self.unused.set()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[NodeSession]:
        return iter(list(self._by_id.values()))

    def get(self, session: SessionId) -> NodeSession | None:
        """The session of that id, whoever asks."""
        return self._by_id.get(session)

    def of_client(self, session: SessionId, client: PeerId) -> NodeSession:
        """The client's own session.

        Raises:
            UnknownSession: there is none, or it is another client's.
        """
        found = self._by_id.get(session)
        if found is None or found.client != client:
            raise UnknownSession("This node holds no such session of yours; open one first.")
        return found

    def open(self, opened: Open, link: Link, priority: int = 0) -> NodeSession:
        """Check a request and create its session, of that class; silent ones give way where there is no room else.

        Raises:
            Draining, SessionExists, WrongModel, WrongSpan, Malformed, Full: nothing was created.
        """
        self.check(opened, link.peer, priority)
        self._make_room(opened, priority)
        span = self._engine.span
        cache = self._engine.open_session(opened.rows, opened.start, opened.end)
        session = NodeSession(opened, link.peer, link, cache, span.hidden_size, span.dtype)
        self._by_id[session.id] = session
        self._taken.add(session.id)
        self.unused.clear()
        return session

    def close(self, session: SessionId, client: PeerId, *, by_client: bool = False) -> None:
        """Free the client's session; another client's, or an unknown one, is left alone."""
        found = self._by_id.get(session)
        if found is not None and found.client == client:
            del self._by_id[session]
            self._taken.discard(session)
            self._engine.close_session(found.cache)
            self._note_use()
            if self._on_close is not None:
                self._on_close(found, by_client)

    def orphan(self, link: Link, now: float) -> None:
        """Note that a client's link ended; its sessions wait ``LINGER_S`` for it."""
        for session in self._by_id.values():
            if session.client_link is link:
                session.orphaned_at = now
        self._note_use()

    def rejoin(self, session: NodeSession, link: Link) -> None:
        """The session's client is back, perhaps over another link."""
        session.client_link, session.orphaned_at = link, None
        session.used_at = asyncio.get_running_loop().time()
        self.unused.clear()

    def sweep(self, now: float) -> None:
        """Free abandoned sessions, and replay buffers beyond the bound."""
        for session in self:
            abandoned = session.orphaned_at is not None and now - session.orphaned_at > LINGER_S
            if abandoned or now - session.used_at > MAX_IDLE_S:
                self.close(session.id, session.client)
        held = [(s.replay.nbytes, s) for s in self if s.replay is not None]
        total = sum(size for size, _ in held)
        for size, session in sorted(held, key=lambda item: -item[0]):
            if total <= REPLAY_BYTES:
                break
            session.replay = None
            total -= size

    def clear(self) -> None:
        """Free everything."""
        for session in self:
            self.close(session.id, session.client)

    def _note_use(self) -> None:
        if all(session.orphaned_at is not None for session in self._by_id.values()):
            self.unused.set()

    def _silent(self, priority: int) -> list[NodeSession]:
        """Sessions of that class, or lower ones, that give way where they must: the longest silent first."""
        since = asyncio.get_running_loop().time() - SILENT_S
        found = [
            one
            for one in self
            if one.used_at < since and not one.waiting and not one.held and one.terms.priority <= priority
        ]
        return sorted(found, key=lambda one: one.used_at)

    @property
    def silent_tokens(self) -> int:
        """KV cache, in tokens, of sessions that give way to any other."""
        return sum(sum(one.cache.capacities) for one in self._silent(0))

    def _lacking(self, opened: Open) -> int:
        """Tokens of KV cache beyond what is free."""
        return opened.tokens * opened.rows - self._engine.budget.free

    def _crowded(self, opened: Open) -> bool:
        return self._lacking(opened) > 0 or len(self) >= MAX_SESSIONS

    def _make_room(self, opened: Open, priority: int) -> None:
        """Clients of sessions that end here open them anew and replay, on this node or another."""
        if self._crowded(opened):
            for session in self._silent(priority):
                self.close(session.id, session.client)
                if not self._crowded(opened):
                    return

    def check(self, opened: Open, client: PeerId, priority: int | None = None) -> None:
        """Check a request to open a session. Raises as ``open`` does.

        Args:
            priority: its class; None: not known yet, perhaps the highest.
        """
        span = self._engine.span
        dtype = name_of(span.dtype)
        if self.draining:
            raise Draining("This node is leaving and takes no new sessions; try another.")
        if opened.session in self._taken:
            raise SessionExists("A session of that id is open already; choose another id or resume it.")
        if opened.model != self._model or opened.dtype != dtype:
            raise WrongModel(
                f"This node serves model {self._model[:12]}… in {dtype}, not {opened.model[:12]}… in {opened.dtype}."
            )
        if not span.start <= opened.start < opened.end <= span.end:
            raise WrongSpan(
                f"This node serves blocks {span.start}:{span.end}, not {opened.start}:{opened.end}; read the directory "
                f"again."
            )
        if len(opened.need) != opened.rows:
            raise Malformed(f"Open names {len(opened.need)} needs for {opened.rows} rows.")
        silent = self._silent(HIGHEST if priority is None else priority) if self._crowded(opened) else []
        if self._lacking(opened) > sum(sum(one.cache.capacities) for one in silent):
            raise Full(
                f"This node's KV cache has room for {self._engine.budget.free} more tokens and the session expects "
                f"{opened.tokens * opened.rows}; try another node."
            )
        if len(self) >= MAX_SESSIONS and not silent:
            raise Full(f"This node holds {MAX_SESSIONS} sessions already; try another node.")
        if Counter(s.client for s in self._by_id.values())[client] >= MAX_SESSIONS_PER_CLIENT:
            raise Full(f"You hold {MAX_SESSIONS_PER_CLIENT} sessions on this node already; close some first.")
