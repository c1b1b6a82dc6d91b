"""A network in memory, with the semantics of the real one: for tests, ours and those of users.

::

    network = MemoryNetwork(latency_s=0.01)
    a, b = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    await b.serve_calls("echo", echo)
    await a.call(b.peer, "echo", b"hi")
    network.freeze(b.peer)  # neither hears nor speaks; ``thaw`` delivers what was held back
    network.kill(b.peer)  # its streams end, its calls fail
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from gridllm.errors import AddressError, CallTimeout, StatementError, SwarmError, Unreachable
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.calls import answer_call, check_size, open_answer
from gridllm.swarm.interface import CallHandler, Stored, Stream, StreamHandler
from gridllm.swarm.lifetime import Lifetime
from gridllm.swarm.memory_stream import MemoryStream, stream_pair
from gridllm.swarm.validator import Owned, sign_record, subkey_of, verify_record
from gridllm.wire.messages import MAX_BODY_BYTES

T = TypeVar("T")


class MemoryNetwork:
    """All swarms of one in-memory network, and the records they stored."""

    def __init__(self, *, latency_s: float = 0.0, clock: Callable[[], float] = time.time) -> None:
        self.latency_s = latency_s
        """One way, seconds; may be changed at any time."""
        self.clock = clock
        """Unix time, seconds; decides which records have expired."""
        self._swarms: dict[PeerId, MemorySwarm] = {}
        self._frozen: set[PeerId] = set()
        self._records: dict[str, dict[bytes, tuple[bytes, float]]] = {}  # key → subkey → signed value, expiration

    def join(self, identity: Identity) -> MemorySwarm:
        """A new participant.

        Raises:
            SwarmError: this identity takes part already.
        """
        if identity.peer in self._swarms:
            raise SwarmError(f"Peer {identity.peer} takes part already; give each participant a key of its own.")
        swarm = MemorySwarm(self, identity, 40000 + len(self._swarms))
        self._swarms[identity.peer] = swarm
        return swarm

    def freeze(self, peer: PeerId) -> None:
        """From now on nothing reaches ``peer`` and nothing leaves it; connections stay open."""
        self._frozen.add(peer)

    def thaw(self, peer: PeerId) -> None:
        """Undo ``freeze`` and deliver what was held back."""
        self._frozen.discard(peer)
        for swarm in self._swarms.values():
            for stream in list(swarm.streams):
                stream.outgoing.flush()

    def kill(self, peer: PeerId) -> None:
        """End ``peer`` without a farewell: its own calls and streams fail, too, and its ``failed`` returns."""
        swarm = self._swarms.get(peer)
        if swarm is not None:
            swarm.die(SwarmError(f"Peer {peer} was killed."))

    def stuck(self, a: PeerId, b: PeerId) -> bool:
        """Whether nothing passes between the two at present."""
        return a in self._frozen or b in self._frozen

    def find(self, peer: PeerId) -> MemorySwarm:
        """The living swarm of ``peer``. Raises Unreachable."""
        swarm = self._swarms.get(peer)
        if swarm is None:
            raise Unreachable(f"Peer {peer} cannot be reached.")
        return swarm

    def peek(self, peer: PeerId) -> MemorySwarm | None:
        """The living swarm of ``peer``, if there is one."""
        return self._swarms.get(peer)

    @property
    def size(self) -> int:
        """How many take part."""
        return len(self._swarms)

    def forget(self, peer: PeerId) -> None:
        """Called by a swarm that ended."""
        self._swarms.pop(peer, None)
        self._frozen.discard(peer)

    def put(self, key: str, subkey: bytes, signed: bytes, expires_at: float) -> bool:
        """Store a record by the DHT's rules: valid, and expiring later than what it replaces."""
        try:
            self.check(key, subkey, signed, expires_at)
        except StatementError:
            return False
        held = self._records.setdefault(key, {})
        if expires_at <= self.clock() or (subkey in held and held[subkey][1] >= expires_at):
            return False
        held[subkey] = signed, expires_at
        return True

    def check(self, key: str, subkey: bytes, signed: bytes, expires_at: float) -> Owned:
        """The record, if it keeps the rules of ``validator``. Raises StatementError."""
        return verify_record(key.encode(), subkey, signed, expires_at, now=self.clock())

    def records(self, key: str) -> list[tuple[bytes, bytes, float]]:
        """Live records under ``key``: subkey, signed value, expiration."""
        now = self.clock()
        return [(subkey, *held) for subkey, held in self._records.get(key, {}).items() if held[1] > now]


class MemorySwarm:
    """``interface.Swarm`` on a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, identity: Identity, port: int) -> None:
        self.peer = identity.peer
        self.addresses: tuple[str, ...] = (f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity.peer}",)
        self.streams: set[MemoryStream] = set()
        self._network = network
        self._identity = identity
        self._calls: dict[str, CallHandler] = {}
        self._handlers: dict[str, StreamHandler] = {}
        self._caps: dict[str, int] = {}  # largest body of the streams of a name
        self._tasks: set[asyncio.Task[None]] = set()
        self._life = Lifetime()

    async def connect(self, peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float = 5.0) -> None:
        """See ``interface.Swarm``; any address will do, but it must look like one."""
        if addresses and not any(address.startswith("/") for address in addresses):
            raise AddressError(f"None of the addresses of {peer} is a multiaddr: {', '.join(addresses)[:200]}.")
        try:
            await self._with_peer(timeout_s, peer, self._round_trip(peer))
        except CallTimeout as error:
            raise Unreachable(f"Peer {peer} cannot be reached: {error}") from error

    async def seen_at(self, peer: PeerId) -> tuple[str, ...]:
        """See ``interface.Swarm``; everyone is connected to everyone."""
        other = self._network.peek(peer)
        return () if other is None else other.addresses

    async def connected(self) -> int:
        """See ``interface.Swarm``; everyone is connected to everyone."""
        return self._network.size - 1

    async def serve_calls(self, name: str, handler: CallHandler) -> None:
        """See ``interface.Swarm``."""
        if name in self._calls:
            raise SwarmError(f"Calls named {name!r} are answered already.")
        self._calls[name] = handler

    async def call(self, peer: PeerId, name: str, payload: bytes, *, timeout_s: float = 5.0) -> bytes:
        """See ``interface.Swarm``."""
        check_size("A request", payload)

        async def exchange() -> bytes:
            await self._round_trip(peer)
            callee = self._network.find(peer)
            if name not in callee._calls:
                raise SwarmError(f"Peer {peer} does not answer calls named {name!r}.")
            answer = await answer_call(name, callee._calls[name], self.peer, bytes(payload))
            await self._passage(peer)
            return answer

        return open_answer(peer, await self._with_peer(timeout_s, peer, exchange()))

    async def serve_streams(self, name: str, handler: StreamHandler, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """See ``interface.Swarm``."""
        self._caps[name] = max_body_bytes
        if name in self._handlers:
            raise SwarmError(f"Streams named {name!r} are taken already.")
        self._handlers[name] = handler

    async def open_stream(
        self, peer: PeerId, name: str, *, timeout_s: float = 5.0, max_body_bytes: int = MAX_BODY_BYTES
    ) -> Stream:
        """See ``interface.Swarm``."""
        await self._with_peer(timeout_s, peer, self._round_trip(peer))
        other = self._network.find(peer)
        if name not in other._handlers:
            raise Unreachable(f"Peer {peer} does not take streams named {name!r}.")
        mine, theirs = stream_pair(self._network, self.peer, peer)
        theirs.max_body_bytes = other._caps[name]
        mine.max_body_bytes = max_body_bytes
        self._hold(mine)
        other._hold(theirs)
        other._spawn(_serve(other._handlers[name], theirs))
        return mine

    async def store(self, key: str, name: str, value: bytes, *, expires_at: float) -> bool:
        """See ``interface.Swarm``."""
        await self._life.within(5.0, None, self._passage(None))
        subkey = msgspec.msgpack.encode(subkey_of(self._identity, name))
        signed = sign_record(self._identity, key.encode(), subkey, msgspec.msgpack.encode(bytes(value)), expires_at)
        return self._network.put(key, subkey, signed, expires_at)

    async def fetch(self, key: str) -> Mapping[tuple[PeerId, str], Stored]:
        """See ``interface.Swarm``."""
        await self._life.within(5.0, None, self._passage(None))
        found = {}
        for subkey, signed, expires_at in self._network.records(key):
            owned = self._network.check(key, subkey, signed, expires_at)
            found[owned.owner, owned.name] = Stored(owned.owner, owned.value, expires_at)
        return found

    async def failed(self) -> SwarmError:
        """See ``interface.Swarm``."""
        return await self._life.failed()

    async def close(self) -> None:
        """See ``interface.Swarm``."""
        self._life.close()
        self._leave()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def die(self, reason: SwarmError) -> None:
        """End as a crash would."""
        self._life.fail(reason)
        self._leave()

    def _leave(self) -> None:
        self._network.forget(self.peer)
        for stream in list(self.streams):
            stream.abort()

    def _hold(self, stream: MemoryStream) -> None:
        self.streams.add(stream)
        stream.on_end = self.streams.discard

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _round_trip(self, peer: PeerId) -> None:
        await self._passage(peer)
        await self._passage(peer)

    async def _passage(self, peer: PeerId | None) -> None:
        """One way to ``peer`` (None: to the network at large); waits while either side is frozen."""
        await asyncio.sleep(self._network.latency_s)
        while self._network.stuck(self.peer, peer or self.peer):  # noqa: ASYNC110 - freezing is plain data for tests
            await asyncio.sleep(0.005)
        if peer is not None:
            self._network.find(peer)

    async def _with_peer(self, timeout_s: float, peer: PeerId, work: Awaitable[T]) -> T:
        """``work``, for at most ``timeout_s`` and no longer than both sides live."""
        other = self._network.peek(peer)
        also = {other._life.ended} if other is not None else set()
        try:
            return await self._life.within(timeout_s, peer, work, also=also)
        except CallTimeout as error:
            if other is not None and other._life.over:
                raise Unreachable(f"Peer {peer} went away.") from error
            raise


async def _serve(handler: StreamHandler, stream: MemoryStream) -> None:
    try:
        await handler(stream)
    finally:
        await stream.close()
