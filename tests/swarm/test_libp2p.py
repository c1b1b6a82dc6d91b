"""The real network on loopback: calls, streams, links, and what happens when processes die or freeze."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from peer_process import LOOPBACK, PeerProcess, answer, echo_link, peer_process

from gridllm.errors import (
    AddressError,
    CallTimeout,
    Full,
    ModelError,
    NodeFault,
    PeerLost,
    SwarmError,
    TooLarge,
    Unreachable,
    WireError,
)
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm import libp2p
from gridllm.swarm.interface import MAX_CALL_BYTES, Stream
from gridllm.swarm.libp2p import Libp2pSwarm, open_swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import MAX_BODY_BYTES, AnyMessage, Leaving
from tests.ports import free_port

Opener = Callable[..., Awaitable[Libp2pSwarm]]


@pytest.fixture
async def swarms() -> AsyncIterator[Opener]:
    """Opens swarms on loopback that are closed at the end of the test."""
    opened: list[Libp2pSwarm] = []

    async def opener(*known: Libp2pSwarm, **options: object) -> Libp2pSwarm:
        options.setdefault("initial_peers", [swarm.addresses[0] for swarm in known])
        options.setdefault("host_maddrs", LOOPBACK)
        identity = options.pop("identity", None) or Identity.ephemeral()
        swarm = await open_swarm(identity, **options)  # type: ignore[arg-type]
        opened.append(swarm)
        return swarm

    yield opener
    await asyncio.gather(*(swarm.close() for swarm in opened))


def daemon_pid(swarm: Libp2pSwarm) -> int:
    return swarm._daemon.p2p._child.pid


def dead_address() -> str:
    """Where nobody listens."""
    return f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{Identity.ephemeral().peer}"


async def awkward(peer: PeerId, payload: bytes) -> bytes:
    errors = {b"full": Full("No room."), b"model": ModelError("No such model."), b"bug": ZeroDivisionError("secret")}
    if payload in errors:
        raise errors[payload]
    if payload == b"slow":
        await asyncio.sleep(30)
    return bytes(MAX_CALL_BYTES + 1) if payload == b"big" else peer.encode() + payload[:5]


async def test_calls_carry_answers_and_errors(swarms: Opener) -> None:
    node = await swarms()
    client = await swarms(node, client_only=True)
    assert client.addresses == ()
    await node.serve_calls("test", awkward)
    assert await client.call(node.peer, "test", b"!") == client.peer.encode() + b"!"
    assert await client.call(node.peer, "test", bytes(MAX_CALL_BYTES)) == client.peer.encode() + bytes(5)
    with pytest.raises(Full, match="No room"):
        await client.call(node.peer, "test", b"full")
    with pytest.raises(SwarmError, match="No such model"):
        await client.call(node.peer, "test", b"model")
    with pytest.raises(NodeFault) as caught:
        await client.call(node.peer, "test", b"bug")
    assert "secret" not in str(caught.value)
    with pytest.raises(TooLarge, match="An answer"):
        await client.call(node.peer, "test", b"big")
    with pytest.raises(TooLarge, match="A request"):
        await client.call(node.peer, "test", bytes(MAX_CALL_BYTES + 1))
    with pytest.raises(CallTimeout):
        await client.call(node.peer, "test", b"slow", timeout_s=0.2)
    with pytest.raises(Unreachable, match="not supported"):
        await client.call(node.peer, "other", b"")
    with pytest.raises(SwarmError, match="already"):
        await node.serve_calls("test", awkward)


async def test_streams_echo_frames_of_all_sizes(swarms: Opener) -> None:
    node = await swarms()
    client = await swarms(node, client_only=True)

    async def echo(stream: Stream) -> None:
        assert stream.peer == client.peer
        with contextlib.suppress(PeerLost):
            while True:
                await stream.write(*await stream.read())

    await node.serve_streams("echo", echo)
    stream = await client.open_stream(node.peer, "echo")
    for size in (0, 1, 65_536, 1_000_000, MAX_BODY_BYTES):
        body = os.urandom(size)
        await stream.write(b"header", body)
        assert await stream.read() == (b"header", body)
    await stream.close()
    with pytest.raises(PeerLost):
        await stream.read()
    with pytest.raises(Unreachable, match="not supported"):
        await client.open_stream(node.peer, "unknown")


async def test_garbage_on_a_stream_ends_that_stream_only(swarms: Opener) -> None:
    node = await swarms()
    client = await swarms(node, client_only=True)
    errors: asyncio.Queue[Exception] = asyncio.Queue()

    async def read(stream: Stream) -> None:
        try:
            await stream.read()
        except WireError as error:
            errors.put_nowait(error)

    await node.serve_streams("read", read)
    await node.serve_calls("test", answer)
    stream = await client.open_stream(node.peer, "read")
    stream._transport.write(b"\xff" * 100)  # type: ignore[attr-defined]
    async with asyncio.timeout(30):
        assert "no frame of ours" in str(await errors.get())
        with pytest.raises(PeerLost):
            await stream.read()
    assert await client.call(node.peer, "test", b"")


async def test_a_peer_is_dialled_by_address_alone(swarms: Opener) -> None:
    a, b = await swarms(), await swarms()
    await b.serve_calls("test", awkward)
    with pytest.raises(Unreachable):
        await a.call(b.peer, "test", b"")
    await a.connect(b.peer, ("not an address", *b.addresses))
    assert await a.call(b.peer, "test", b"") == a.peer.encode()
    stranger = dead_address()
    with pytest.raises(Unreachable):
        await a.connect(PeerId(stranger.rsplit("/", 1)[1]), (stranger,))
    with pytest.raises(Unreachable):  # someone else answers there
        await a.connect(Identity.ephemeral().peer, (b.addresses[0].split("/p2p/")[0],))
    with pytest.raises(AddressError):
        await a.connect(b.peer, ("/ip4/1.2.3.4.5/tcp/1",))


async def open_link(
    client: Libp2pSwarm, peer: PeerId, **options: float
) -> tuple[Link, asyncio.Task[None], asyncio.Queue[tuple[AnyMessage, bytes]]]:
    got: asyncio.Queue[tuple[AnyMessage, bytes]] = asyncio.Queue()
    stream = await client.open_stream(peer, LINK_STREAM)
    link = Link(stream, on_message=lambda _, m, b: got.put_nowait((m, bytes(b))), opener=True, **options)
    return link, asyncio.create_task(link.run()), got


@pytest.fixture
async def other() -> AsyncIterator[PeerProcess]:
    async with peer_process() as started:
        yield started


async def test_a_killed_process_is_noticed_at_once(swarms: Opener, other: PeerProcess) -> None:
    client = await swarms(initial_peers=[other.address], client_only=True)
    link, run, got = await open_link(client, other.peer, silence_s=240.0)
    link.send(Leaving(1), b"hello")
    async with asyncio.timeout(30):
        assert await got.get() == (Leaving(1), b"hello")
    async with asyncio.timeout(30):  # the first heartbeat's echo comes when it comes
        while link.rtt_s is None:  # noqa: ASYNC110 - plain data
            await asyncio.sleep(0.01)
    other.signal(signal.SIGKILL)
    async with asyncio.timeout(30):  # by the connection's end, long before its silence would tell
        with pytest.raises(PeerLost):
            await run
        with pytest.raises(Unreachable):
            await client.call(other.peer, "test", b"", timeout_s=60)


async def test_a_frozen_process_is_noticed_by_its_silence(swarms: Opener, other: PeerProcess) -> None:
    client = await swarms(initial_peers=[other.address], client_only=True)
    _, run, _ = await open_link(client, other.peer, heartbeat_s=0.2, silence_s=1.0)
    await asyncio.sleep(0.3)
    other.signal(signal.SIGSTOP)  # its p2pd runs on and keeps the connection alive
    with pytest.raises(CallTimeout):
        await client.call(other.peer, "test", b"", timeout_s=0.5)
    async with asyncio.timeout(30):
        with pytest.raises(PeerLost, match="silent"):
            await run
    other.signal(signal.SIGCONT)
    assert await client.call(other.peer, "test", b"again") == client.peer.encode() + b"again"


async def test_nothing_hangs_when_our_own_daemon_dies(swarms: Opener) -> None:
    node, first = await swarms(), await swarms()
    client = await swarms(node, first)
    await node.serve_calls("test", awkward)
    await node.serve_streams(LINK_STREAM, echo_link)
    _, run, _ = await open_link(client, node.peer)
    pending = asyncio.create_task(client.call(node.peer, "test", b"slow", timeout_s=60))
    told = asyncio.create_task(client.failed())
    await asyncio.sleep(0.1)
    os.kill(daemon_pid(client), signal.SIGKILL)
    async with asyncio.timeout(25):  # below the 30 s after which the call that waits is answered
        assert "ended by itself" in str(await told)
        with pytest.raises(SwarmError, match="ended by itself"):
            await pending
        with pytest.raises(PeerLost):
            await run
        for work in (
            client.call(node.peer, "test", b""),
            client.open_stream(node.peer, LINK_STREAM),
            client.connect(node.peer, node.addresses),
            client.fetch("key"),
            client.store("key", "name", b"", expires_at=time.time() + 10),
            client.serve_calls("more", awkward),
        ):
            with pytest.raises(SwarmError, match="ended by itself"):
                await work
        await client.close()


async def test_closing_ends_the_only_other_process_and_removes_its_files() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    swarm = await open_swarm(Identity.ephemeral(), host_maddrs=LOOPBACK)
    started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child.pid for child in started] == [daemon_pid(swarm)]
    folder = Path(swarm._daemon.control.listen_maddr["unix"]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (folder / "key").exists()
    waiting = asyncio.create_task(swarm.failed())
    await swarm.close()
    await swarm.close()
    assert not started[0].is_running()
    assert not folder.exists()
    with pytest.raises(SwarmError, match="closed"):
        await swarm.fetch("key")
    assert not waiting.done()  # it did not fail: it was closed
    waiting.cancel()


async def test_a_daemon_that_ignores_the_request_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridllm.swarm.p2pd.END_TIMEOUT_S", 0.3)
    swarm = await open_swarm(Identity.ephemeral(), host_maddrs=LOOPBACK)
    daemon = psutil.Process(daemon_pid(swarm))
    daemon.suspend()
    async with asyncio.timeout(30):
        await swarm.close()
    assert not daemon.is_running()


async def test_a_port_in_use_is_said_in_one_sentence(swarms: Opener) -> None:
    node = await swarms()
    taken = node.addresses[0].split("/p2p/")[0]
    with pytest.raises(SwarmError, match="port"):
        await swarms(host_maddrs=(taken,))
    with pytest.raises(AddressError):
        await swarms(host_maddrs=("/ip4/nonsense",))


async def test_a_client_that_reaches_nobody_is_told_and_a_node_goes_on(
    swarms: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p, "MAINTENANCE_S", 0.2)
    with pytest.raises(Unreachable, match="known peers"):
        await swarms(initial_peers=[dead_address()], client_only=True)
    bootstrap = Identity.ephemeral()
    host = dead_address().split("/p2p/")[0]
    node = await swarms(initial_peers=[f"{host}/p2p/{bootstrap.peer}"])
    late = await swarms(identity=bootstrap, host_maddrs=(host,))
    await late.store("key", "name", b"value", expires_at=time.time() + 30)
    async with asyncio.timeout(60):
        while not await node.fetch("key"):  # noqa: ASYNC110 - another process decides when
            await asyncio.sleep(0.2)
