"""Signed records in the real DHT: who can write, read and hide what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from test_libp2p import Opener, dead_address, swarms

from gridllm.errors import SwarmError
from gridllm.identity.keys import Identity
from gridllm.ids import GridId, ModelRoot
from gridllm.swarm.directory import Directory
from gridllm.swarm.hivemind_parts import P2P, DHTNode, PeerID
from gridllm.swarm.libp2p import Libp2pSwarm
from gridllm.swarm.validator import subkey_of
from gridllm.wire.record import NodeRecord

__all__ = ["swarms"]


class Attacker:
    """A DHT member without our rules."""

    def __init__(self, p2p: P2P, node: DHTNode, members: list[Libp2pSwarm]) -> None:
        self._p2p = p2p
        self._node = node
        self._members = [PeerID.from_base58(member.peer) for member in members]

    async def store(self, key: str, value: object, ahead_s: float, subkey: str | None = None) -> list[bool]:
        """Ask each member directly to store ``value``; returns what they said."""
        answers = []
        for member in self._members:
            raw = self._node.protocol.serializer.dumps(value)
            key_id = self._node.protocol.node_id.generate(source=f"/{key}")
            said = None
            async with asyncio.timeout(60):
                while said is None:  # two seconds went by without an answer
                    said = await self._node.protocol.call_store(
                        member, [key_id], [raw], [time.time() + ahead_s], subkeys=[subkey]
                    )
            answers += said
        return answers


@pytest.fixture
async def attacked(swarms: Opener) -> AsyncIterator[tuple[Libp2pSwarm, Libp2pSwarm, Attacker]]:
    """Two members, and an attacker whom both know."""
    a = await swarms()
    b = await swarms(a)
    p2p = await P2P.create(list(a.addresses), nat_port_map=False, auto_nat=False)
    node = await DHTNode.create(p2p, initial_peers=[*a.addresses, *b.addresses])
    yield a, b, Attacker(p2p, node, [a, b])
    await node.shutdown()
    await p2p.shutdown()


async def test_records_reach_everyone_and_expire(swarms: Opener) -> None:
    a = await swarms()
    b, client = await swarms(a), await swarms(a, client_only=True)
    assert await client.store("key", "name", b"c", expires_at=time.time() + 300)
    for ahead_s in (1.5, 10.0, 60.0):  # on a slow machine a record is over before it is read
        expires_at = time.time() + ahead_s
        stored = await b.store("key", "name", b"b", expires_at=expires_at)
        seen = [await reader.fetch("key") for reader in (a, b, client)]
        if time.time() < expires_at:
            break
    assert stored
    for found in seen:
        assert {(owner, name): record.value for (owner, name), record in found.items()} == {
            (b.peer, "name"): b"b",
            (client.peer, "name"): b"c",
        }
        assert found[b.peer, "name"].expires_at == pytest.approx(expires_at)
    assert await client.store("key", "name", b"later", expires_at=time.time() + 301)
    await asyncio.sleep(max(0.0, expires_at - time.time()) + 0.1)
    for reader in (a, b, client):
        assert {stored.value for stored in (await reader.fetch("key")).values()} == {b"later"}


async def test_a_lone_client_stores_nothing(swarms: Opener) -> None:
    client = await swarms(client_only=True)
    assert not await client.store("key", "name", b"", expires_at=time.time() + 10)
    assert not await client.fetch("key")


async def test_grids_do_not_mix(swarms: Opener) -> None:
    a = await swarms(namespace="one")
    b = await swarms(a, namespace="two")
    await a.store("key", "name", b"a", expires_at=time.time() + 10)
    assert not await b.fetch("key")


async def test_nobody_writes_under_anothers_name_or_hides_it(
    attacked: tuple[Libp2pSwarm, Libp2pSwarm, Attacker],
) -> None:
    a, b, attacker = attacked
    await a.store("key", "node", b"true", expires_at=time.time() + 300)
    subkey = subkey_of(a._identity, "node")
    for forged in (b"forged", b"forged" + bytes(64), "text", None):
        assert not any(await attacker.store("key", forged, 60, subkey))
    assert not any(await attacker.store("key", b"plain", 3000))  # without a subkey: would hide every record
    assert not any(await attacker.store("key", b"parked", 10_000, subkey))
    assert not any(await attacker.store("key", b"x", 60, "no owner"))
    for reader in (a, b):
        assert [stored.value for stored in (await reader.fetch("key")).values()] == [b"true"]


async def test_a_plain_value_cannot_occupy_a_key_first(attacked: tuple[Libp2pSwarm, Libp2pSwarm, Attacker]) -> None:
    a, b, attacker = attacked
    assert not any(await attacker.store("fresh", b"plain", 3000))
    assert await a.store("fresh", "node", b"true", expires_at=time.time() + 300)
    assert [stored.value for stored in (await b.fetch("fresh")).values()] == [b"true"]


async def test_a_node_comes_back_through_peers_it_remembers(swarms: Opener) -> None:
    identity = Identity.ephemeral()
    bootstrap = await swarms(identity=identity)
    node = await swarms(bootstrap)
    await node.store("key", "name", b"before", expires_at=time.time() + 300)
    await bootstrap.close()
    assert (await node.fetch("key"))[node.peer, "name"].value == b"before"
    again = await swarms(identity=identity, initial_peers=[dead_address(), node.addresses[0]])
    assert (await again.fetch("key"))[node.peer, "name"].value == b"before"
    newcomer = await swarms(again, client_only=True)
    assert (await newcomer.fetch("key"))[node.peer, "name"].value == b"before"


async def test_the_directory_over_the_real_network(swarms: Opener) -> None:
    grid, model = GridId("g" * 64), ModelRoot("a" * 64)
    a = await swarms(namespace=grid)
    b, client = await swarms(a, namespace=grid), await swarms(a, namespace=grid, client_only=True)
    directories = [Directory(swarm, grid) for swarm in (a, b)]
    records = [
        NodeRecord(
            peer=swarm.peer,
            version="0",
            model=model,
            start=0,
            end=4,
            state="serving",
            dtype="float32",
            blocks_per_s=1.0,
            free_tokens=1,
            total_tokens=1,
            next_hop_ms={},
            addresses=list(swarm.addresses),
            since=time.time(),
        )
        for swarm in (a, b)
    ]
    for directory, record in zip(directories, records, strict=True):
        await directory.publish(record)
    reader = Directory(client, grid)
    assert await reader.nodes(model) == sorted(records, key=lambda record: record.peer)
    await directories[1].retract()
    assert await reader.nodes(model) == records[:1]
    await client.close()
    with pytest.raises(SwarmError):
        await reader.nodes(model)
