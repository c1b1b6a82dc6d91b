"""The in-memory network keeps the real one's promises; the directory on top of it."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

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
from gridllm.ids import GridId, ModelRoot, PeerId
from gridllm.swarm.directory import NAME, SHARDS, Announcer, Directory, shard_key, shard_of
from gridllm.swarm.interface import MAX_CALL_BYTES, Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.swarm.validator import sign_record, subkey_of
from gridllm.wire.record import NodeRecord, encode_record

GRID, MODEL = GridId("g" * 64), ModelRoot("a" * 64)


def pair(network: MemoryNetwork) -> tuple[MemorySwarm, MemorySwarm]:
    return network.join(Identity.ephemeral()), network.join(Identity.ephemeral())


async def awkward(peer: PeerId, payload: bytes) -> bytes:
    """Answers with the caller's id, or fails in the way that was asked for."""
    errors = {b"full": Full("No room."), b"model": ModelError("No such model."), b"bug": ZeroDivisionError("secret")}
    if payload in errors:
        raise errors[payload]
    return bytes(MAX_CALL_BYTES + 1) if payload == b"big" else peer.encode() + payload


async def echo(stream: Stream) -> None:
    while True:
        header, body = await stream.read()
        await stream.write(header, body)


async def test_calls_carry_answers_and_errors() -> None:
    a, b = pair(MemoryNetwork())
    await b.serve_calls("test", awkward)
    assert await a.call(b.peer, "test", b"!") == a.peer.encode() + b"!"
    with pytest.raises(Full, match="No room"):
        await a.call(b.peer, "test", b"full")
    with pytest.raises(SwarmError, match="No such model"):
        await a.call(b.peer, "test", b"model")
    with pytest.raises(NodeFault) as caught:
        await a.call(b.peer, "test", b"bug")
    assert "secret" not in str(caught.value)
    with pytest.raises(TooLarge, match="An answer"):
        await a.call(b.peer, "test", b"big")
    with pytest.raises(TooLarge, match="A request"):
        await a.call(b.peer, "test", bytes(MAX_CALL_BYTES + 1))
    with pytest.raises(SwarmError, match="other"):
        await a.call(b.peer, "other", b"")


async def test_one_handler_per_name_and_one_swarm_per_identity() -> None:
    network = MemoryNetwork()
    identity = Identity.ephemeral()
    swarm = network.join(identity)
    await swarm.serve_calls("x", awkward)
    with pytest.raises(SwarmError):
        await swarm.serve_calls("x", awkward)
    with pytest.raises(SwarmError, match="takes part already"):
        network.join(identity)
    await swarm.close()
    network.join(identity)


async def test_streams_echo_in_order_with_latency() -> None:
    a, b = pair(MemoryNetwork(latency_s=0.01))
    await b.serve_streams("echo", echo)
    started = time.perf_counter()
    stream = await a.open_stream(b.peer, "echo")
    for i in range(50):
        stream.send(b"%d" % i, bytes(i))
    for i in range(50):
        assert await stream.read() == (b"%d" % i, bytes(i))
    assert time.perf_counter() - started >= 0.035
    await stream.close()
    with pytest.raises(PeerLost):
        await stream.read()
    with pytest.raises(PeerLost):
        stream.send(b"x")
    with pytest.raises(Unreachable):
        await a.open_stream(b.peer, "unknown")


async def test_a_killed_peer_ends_streams_and_calls() -> None:
    network = MemoryNetwork(latency_s=0.02)
    a, b = pair(network)
    await b.serve_calls("test", awkward)
    await b.serve_streams("echo", echo)
    stream = await a.open_stream(b.peer, "echo")
    calling = asyncio.create_task(a.call(b.peer, "test", b""))
    waiting = asyncio.create_task(b.failed())
    await asyncio.sleep(0.005)
    network.kill(b.peer)
    with pytest.raises(PeerLost):
        await stream.read()
    with pytest.raises(Unreachable):
        await calling
    assert "killed" in str(await waiting)
    with pytest.raises(SwarmError, match="killed"):
        await b.fetch("key")
    with pytest.raises(Unreachable):
        await a.connect(b.peer, ())


async def test_a_frozen_peer_neither_hears_nor_speaks_until_thawed() -> None:
    network = MemoryNetwork()
    a, b = pair(network)
    await b.serve_calls("test", awkward)
    await b.serve_streams("echo", echo)
    stream = await a.open_stream(b.peer, "echo")
    network.freeze(b.peer)
    stream.send(b"hello")
    with pytest.raises(CallTimeout):
        await a.call(b.peer, "test", b"", timeout_s=0.05)
    with pytest.raises(Unreachable):
        await a.connect(b.peer, b.addresses, timeout_s=0.05)
    network.thaw(b.peer)
    assert (await stream.read()).header == b"hello"
    await a.connect(b.peer, b.addresses)


async def test_a_closed_swarm_says_so() -> None:
    a, b = pair(MemoryNetwork())
    await a.close()
    await a.close()
    with pytest.raises(SwarmError, match="closed"):
        await a.call(b.peer, "test", b"")
    with pytest.raises(Unreachable):
        await b.call(a.peer, "test", b"")


async def test_nonsense_addresses_are_refused() -> None:
    a, b = pair(MemoryNetwork())
    with pytest.raises(AddressError):
        await a.connect(b.peer, ("nonsense",))


async def test_records_expire_and_only_later_ones_replace() -> None:
    now = 1_800_000_000.0
    network = MemoryNetwork(clock=lambda: now)
    a, b = pair(network)
    assert await a.store("k", "n", b"1", expires_at=now + 10)
    assert not await a.store("k", "n", b"2", expires_at=now + 10)
    assert await a.store("k", "n", b"3", expires_at=now + 11)
    assert await b.store("k", "n", b"b", expires_at=now + 5)
    assert not await b.store("k", "n", b"parked", expires_at=now + 4000)
    assert {owner: stored.value for (owner, _), stored in (await b.fetch("k")).items()} == {a.peer: b"3", b.peer: b"b"}
    now += 10
    assert [stored.value for stored in (await b.fetch("k")).values()] == [b"3"]
    now += 1
    assert not await b.fetch("k")


async def test_the_network_refuses_records_of_others() -> None:
    network = MemoryNetwork()
    anna, bert = Identity.ephemeral(), Identity.ephemeral()
    subkey, expires_at = msgspec.msgpack.encode(subkey_of(anna, "node")), time.time() + 30
    forged = sign_record(bert, b"k", subkey, msgspec.msgpack.encode(b"mine"), expires_at)
    assert not network.put("k", subkey, forged, expires_at)
    assert network.put(
        "k", subkey, sign_record(anna, b"k", subkey, msgspec.msgpack.encode(b"x"), expires_at), expires_at
    )


def record(peer: PeerId, model: ModelRoot = MODEL, start: int = 0) -> NodeRecord:
    return NodeRecord(
        peer=peer,
        version="0",
        model=model,
        start=start,
        end=start + 4,
        state="serving",
        dtype="float32",
        blocks_per_s=1.0,
        free_tokens=1,
        total_tokens=1,
        next_hop_ms={},
        addresses=[],
        since=0.0,
    )


async def test_the_directory_lists_who_announced_until_they_retract() -> None:
    network = MemoryNetwork()
    swarms = [network.join(Identity.ephemeral()) for _ in range(20)]
    for swarm in swarms:
        await Directory(swarm, GRID).publish(record(swarm.peer))
    reader = Directory(swarms[0], GRID)
    assert [r.peer for r in await reader.nodes(MODEL)] == sorted(s.peer for s in swarms)
    assert len({shard_of(swarm.peer) for swarm in swarms}) > 1
    assert not await reader.nodes(ModelRoot("b" * 64))
    assert not await Directory(swarms[0], GridId("h" * 64)).nodes(MODEL)
    await reader.publish(record(swarms[0].peer, start=4))
    assert {r.peer: r.start for r in await reader.nodes(MODEL)}[swarms[0].peer] == 4
    await reader.retract()
    assert swarms[0].peer not in [r.peer for r in await reader.nodes(MODEL)]
    await reader.publish(record(swarms[0].peer))  # may come back at once
    assert swarms[0].peer in [r.peer for r in await reader.nodes(MODEL)]


async def test_a_look_at_one_model_does_not_lose_the_addresses_of_anothers_nodes() -> None:
    network = MemoryNetwork()
    one, two = pair(network)
    other = ModelRoot("b" * 64)
    leaving = Directory(one, GRID)
    await leaving.publish(record(one.peer))
    await Directory(two, GRID).publish(record(two.peer, other))
    reader = Directory(one, GRID)
    for model in (MODEL, other, ModelRoot("c" * 64)):
        await reader.nodes(model)
    assert set(reader.seen) == {one.peer, two.peer}
    await leaving.retract()
    await reader.nodes(MODEL)
    assert set(reader.seen) == {two.peer}


async def test_the_directory_leaves_out_garbage_one_by_one() -> None:
    network = MemoryNetwork()
    honest, liar = pair(network)
    await Directory(honest, GRID).publish(record(honest.peer))
    later = time.time() + 20
    for shard, value in enumerate(
        [
            encode_record(record(honest.peer, start=8)),
            encode_record(record(liar.peer, ModelRoot("b" * 64))),
            b"\xc1garbage",
        ]
    ):
        assert await liar.store(shard_key(GRID, MODEL, shard), NAME, value, expires_at=later)
    assert await liar.store(shard_key(GRID, MODEL, SHARDS - 1), "other", b"x", expires_at=later)
    assert await Directory(honest, GRID).nodes(MODEL) == [record(honest.peer)]


async def shown(reader: Directory, start: int) -> None:
    """Wait until one node is announced, from that block on."""
    async with asyncio.timeout(60):
        while [one.start for one in await reader.nodes(MODEL)] != [start]:  # noqa: ASYNC110 - the network tells no news
            await asyncio.sleep(0.01)


async def test_the_announcer_refreshes_hurries_and_retracts() -> None:
    network = MemoryNetwork()
    swarm, other = pair(network)
    reader, start = Directory(other, GRID), 0
    announcer = Announcer(Directory(swarm, GRID), lambda: record(swarm.peer, start=start), ttl_s=1.0)
    async with announcer:
        await asyncio.sleep(1.5)  # longer than one record lives
        await shown(reader, 0)
        start = 4
        announcer.refresh()
        await shown(reader, 4)
    assert not await reader.nodes(MODEL)


async def test_the_announcer_survives_a_record_that_cannot_be_made() -> None:
    network = MemoryNetwork()
    swarm, other = pair(network)
    broken = False

    async def make() -> NodeRecord:
        if broken:
            raise WireError("Too large.")
        return record(swarm.peer)

    announcer = Announcer(Directory(swarm, GRID), make, ttl_s=0.15)
    async with announcer:
        broken = True
        async with asyncio.timeout(60):
            while await Directory(other, GRID).nodes(MODEL):  # noqa: ASYNC110 - the network tells no news
                await asyncio.sleep(0.01)
        broken = False
        await shown(Directory(other, GRID), 0)
