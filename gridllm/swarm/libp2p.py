"""The real network: libp2p through hivemind's daemon, records in hivemind's DHT, all in the running event loop.

hivemind leaves calls hanging when its daemon dies, and its time-outs are minutes; here every wait has a limit of its
own and ends at once when the daemon does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.wrappers_pb2 import BytesValue  # type: ignore[import-untyped]

from gridllm.errors import CallTimeout, GridError, SwarmError, Unreachable
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.addresses import parse_addresses
from gridllm.swarm.calls import answer_call, check_size, open_answer
from gridllm.swarm.dht import Records
from gridllm.swarm.faults import DAEMON_FAULTS, faults_as, hivemind_id
from gridllm.swarm.first_peers import reach_any
from gridllm.swarm.interface import CallHandler, Stored, Stream, StreamHandler
from gridllm.swarm.lifetime import Lifetime
from gridllm.swarm.p2pd import Daemon
from gridllm.swarm.stream import FrameStream
from gridllm.swarm.way_back import WayBack
from gridllm.wire.messages import MAX_BODY_BYTES

log = logging.getLogger(__name__)

DHT_TIMEOUT_S: Final = 10.0
MAINTENANCE_S: Final = 10.0
CONTROL_S: Final = 2.0  # for a question that only the daemon on this machine answers
UNLISTED: Final = "The libp2p daemon does not list its connections"


async def open_swarm(
    identity: Identity,
    *,
    initial_peers: Sequence[str] = (),
    host_maddrs: Sequence[str] = ("/ip4/0.0.0.0/tcp/0",),
    announce_maddrs: Sequence[str] = (),
    client_only: bool = False,
    relay: bool = True,
    namespace: str = "",
) -> Libp2pSwarm:
    """Enter the network.

    Args:
        identity: who we are; two swarms with one identity at a time break each other's connections.
        initial_peers: full multiaddrs of some members. A node that reaches none of them goes on trying; a client
            has nothing to do without them.
        host_maddrs: where to listen; port 0 is chosen by the system.
        announce_maddrs: what to tell others instead, when it differs. Naming one says that others reach it, and makes
            this node a relay for those that nobody reaches.
        client_only: dial only; keep no records for others.
        relay: reach, and be reached, through relays where a direct connection is impossible.
        namespace: prefix of all record keys; the grid's id, so that grids never mix.

    Raises:
        AddressError: an address does not parse.
        Unreachable: a client reached none of the ``initial_peers``.
        SwarmError: the libp2p daemon did not start.
    """
    first = [(PeerId(address.rsplit("/p2p/", 1)[-1]), address) for address in initial_peers]
    for peer, address in first:
        parse_addresses([address], peer)
        hivemind_id(peer)
    daemon = await Daemon.start(
        identity,
        host_maddrs=host_maddrs,
        announce_maddrs=announce_maddrs,
        trusted_relays=initial_peers,
        client_only=client_only,
        relay=relay,
    )
    swarm = Libp2pSwarm(identity, daemon, first, namespace=namespace, client_only=client_only)
    try:
        await swarm._enter()
    except BaseException:
        await swarm.close()
        raise
    return swarm


class Libp2pSwarm:
    """``interface.Swarm``; made by ``open_swarm``."""

    def __init__(
        self,
        identity: Identity,
        daemon: Daemon,
        first: Sequence[tuple[PeerId, str]],
        *,
        namespace: str,
        client_only: bool,
    ) -> None:
        self.peer = identity.peer
        self.addresses: tuple[str, ...] = ()
        self._identity = identity
        self._daemon = daemon
        self._first = [(peer, address) for peer, address in first if peer != identity.peer]
        self._namespace = namespace
        self._client_only = client_only
        self._records: Records | None = None
        self._way_back = WayBack(self._first, self.connect, self._greet, lambda: self._held.lonely)
        self._streams: set[FrameStream] = set()
        self._life = Lifetime()
        self._left = False
        self._tasks = [asyncio.create_task(self._watch())]

    # presence

    async def connect(self, peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float = 5.0) -> None:
        """See ``interface.Swarm``."""
        binary = parse_addresses(addresses, peer)
        where = ", ".join(addresses[:3]) or "any address known to the network"
        with faults_as(Unreachable, f"Peer {peer} cannot be reached at {where}"):
            try:
                await self._life.within(timeout_s, peer, self._daemon.connect(hivemind_id(peer), binary))
            except CallTimeout as error:
                raise Unreachable(f"Peer {peer} did not answer at {where} within {timeout_s:g} s.") from error

    async def seen_at(self, peer: PeerId) -> tuple[str, ...]:
        """See ``interface.Swarm``."""
        with faults_as(SwarmError, UNLISTED):
            return await self._life.within(CONTROL_S, None, self._daemon.seen_at(hivemind_id(peer)))

    async def connected(self) -> int:
        """See ``interface.Swarm``."""
        with faults_as(SwarmError, UNLISTED):
            return await self._life.within(CONTROL_S, None, self._daemon.connected())

    async def failed(self) -> SwarmError:
        """See ``interface.Swarm``: returns when the libp2p daemon died."""
        return await self._life.failed()

    async def close(self) -> None:
        """See ``interface.Swarm``."""
        if self._left:
            return
        self._left = True
        self._life.close()
        for task in self._tasks:
            task.cancel()
        for stream in list(self._streams):
            await stream.close()
        await self._daemon.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # calls

    async def serve_calls(self, name: str, handler: CallHandler) -> None:
        """See ``interface.Swarm``."""

        async def answer(request: BytesValue, context: Any) -> BytesValue:
            caller = PeerId(context.remote_id.to_base58())  # proven by the connection's handshake
            return BytesValue(value=await answer_call(name, handler, caller, request.value))

        await self._register(name, self._daemon.p2p.add_protobuf_handler(name, answer, BytesValue))

    async def call(self, peer: PeerId, name: str, payload: bytes, *, timeout_s: float = 5.0) -> bytes:
        """See ``interface.Swarm``."""
        check_size("A request", payload)
        request = BytesValue(value=bytes(payload))
        with faults_as(Unreachable, f"The call {name} did not reach peer {peer}"):
            answer = await self._life.within(
                timeout_s, peer, self._daemon.p2p.call_protobuf_handler(hivemind_id(peer), name, request, BytesValue)
            )
        return open_answer(peer, answer.value)

    # streams

    async def serve_streams(self, name: str, handler: StreamHandler, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """See ``interface.Swarm``."""

        async def accept(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = PeerId(info.peer_id.to_base58())
            stream = FrameStream.adopt(peer, reader, writer, max_body_bytes=max_body_bytes)
            self._streams.add(stream)
            try:
                await handler(stream)
            except GridError as error:
                log.debug("Stream %s of %s ended: %s", name, stream.peer, error)
            except Exception:
                log.exception("The handler of stream %s failed", name)
            finally:
                self._streams.discard(stream)
                await stream.close()

        await self._register(name, self._daemon.p2p._client.stream_handler(name, accept))

    async def open_stream(
        self, peer: PeerId, name: str, *, timeout_s: float = 5.0, max_body_bytes: int = MAX_BODY_BYTES
    ) -> Stream:
        """See ``interface.Swarm``."""
        with faults_as(Unreachable, f"No stream {name} to peer {peer}"):
            reader, writer = await self._life.within(timeout_s, peer, self._daemon.open_stream(hivemind_id(peer), name))
        stream = FrameStream.adopt(peer, reader, writer, max_body_bytes=max_body_bytes)
        self._streams.add(stream)
        stream.on_end = self._streams.discard
        return stream

    # records

    async def store(self, key: str, name: str, value: bytes, *, expires_at: float) -> bool:
        """See ``interface.Swarm``."""
        return await self._life.within(
            DHT_TIMEOUT_S, None, self._held.store(key, name, bytes(value), float(expires_at))
        )

    async def fetch(self, key: str) -> Mapping[tuple[PeerId, str], Stored]:
        """See ``interface.Swarm``."""
        held = self._held
        return await self._life.within(DHT_TIMEOUT_S, None, self._way_back.read(lambda: held.fetch(key)))

    # inside

    @property
    def _held(self) -> Records:
        if self._records is None:
            raise SwarmError("This swarm has not entered the network yet.")
        return self._records

    async def _enter(self) -> None:
        reached = await reach_any(self.connect, self._first)
        if self._first and not reached:
            text = f"None of the {len(self._first)} known peers answered, the first being {self._first[0][1]}"
            if self._client_only:
                raise Unreachable(f"{text}; is one of them running, and the network up?")
            log.warning("%s; this node goes on trying.", text)
        opening = Records.open(
            self._daemon.p2p, self._identity, reached, namespace=self._namespace, client_only=self._client_only
        )
        self._records = await self._life.within(DHT_TIMEOUT_S, None, opening)
        await self._refresh_addresses()
        self._tasks.append(asyncio.create_task(self._maintain()))

    async def _refresh_addresses(self) -> None:
        with contextlib.suppress(ValueError, *DAEMON_FAULTS):  # ValueError: a client that listens nowhere has none
            maddrs = await self._life.within(5.0, None, self._daemon.p2p.get_visible_maddrs(latest=True))
            self.addresses = tuple(str(maddr) for maddr in maddrs)

    async def _maintain(self) -> None:
        """Notice new addresses (relays take a while), and find back into a network that was lost."""
        while True:
            await asyncio.sleep(MAINTENANCE_S)
            try:
                if not self._client_only:
                    await self._refresh_addresses()
                if self._first and self._held.lonely:
                    await self._way_back.find()
            except SwarmError as error:
                log.debug("Maintenance of the swarm: %s", error)

    async def _greet(self, peer: PeerId) -> None:
        await self._life.within(5.0, peer, self._held.greet(peer))

    async def _watch(self) -> None:
        """Notice the daemon's death: nothing else would, and calls would hang."""
        status = await self._daemon.ended()
        if self._life.over:
            return
        error = SwarmError(f"The libp2p daemon of this process ended by itself (status {status}); start anew.")
        log.error("%s", error)
        self._life.fail(error)
        self._daemon.fail_pending("the libp2p daemon ended")
        for stream in list(self._streams):
            stream.abort()

    async def _register(self, name: str, work: Awaitable[Any]) -> None:
        with faults_as(SwarmError, f"{name!r} cannot be served"):
            await self._life.within(5.0, None, work)
