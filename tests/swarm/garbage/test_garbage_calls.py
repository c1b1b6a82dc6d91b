"""Calls and records of any kind."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.charter.fetch import CHARTER_CALL, MANIFEST_CALL
from gridllm.charter.gossip import NOTICE_CALL, NOTICES_CALL
from gridllm.errors import GridError, Refusal
from gridllm.ids import PeerId
from gridllm.node.service.switchboard import METRICS_CALL, PING_CALL
from gridllm.swarm.directory import Directory, shard_key
from gridllm.swarm.hivemind_parts import P2PHandlerError, PeerID
from gridllm.swarm.validator import sign_record, subkey_of
from gridllm.wire.record import NodeRecord
from gridllm_client.grid import Grid
from tests.swarm.garbage.scene import PROMPT, TOKENS, Scene, fuzz

pytestmark = pytest.mark.timeout(420)


async def quietly(work: Any) -> Any:
    """The result, or the named error."""
    try:
        return await work
    except GridError as error:
        return error


@fuzz(60)
@given(payload=st.binary(max_size=200) | st.binary(min_size=72, max_size=72))
def test_calls_with_any_payload(scene: Scene, payload: bytes) -> None:
    known = struct.pack("!64sQ", scene.entry.root.encode(), 2**64 - 1)
    assert scene.run(scene.call(PING_CALL, payload)) == payload[:64]
    assert scene.run(scene.call(CHARTER_CALL, payload)) == scene.signed.raw
    assert "passes" in msgspec.msgpack.decode(scene.run(scene.call(METRICS_CALL, payload)))
    answer = scene.run(quietly(scene.call(MANIFEST_CALL, payload)))
    assert isinstance(answer, Refusal)
    assert len(scene.run(scene.call(MANIFEST_CALL, known))) == 8  # its size, and nothing from beyond its end
    answer = scene.run(quietly(scene.call(NOTICES_CALL, payload)))
    assert isinstance(answer, Refusal) == (len(payload) != 36)
    assert "no notice of the maintainers" in str(scene.run(quietly(scene.call(NOTICE_CALL, payload))))
    beyond = scene.run(scene.call(NOTICES_CALL, bytes(32) + b"\xff" * 4))
    assert msgspec.msgpack.decode(beyond) == [0, []]


CALLS = [
    PING_CALL,
    CHARTER_CALL,
    METRICS_CALL,
    MANIFEST_CALL,
    NOTICES_CALL,
    NOTICE_CALL,
    *(f"DHTProtocol.rpc_{n}" for n in ("ping", "store", "find")),
]


@fuzz(60)
@given(name=st.sampled_from(CALLS), data=st.binary(max_size=300))
def test_calls_that_are_no_calls(scene: Scene, name: str, data: bytes) -> None:
    """Below our own encoding: bytes that hivemind's handlers get."""

    async def send() -> Any:
        control = scene.stranger.swarm._daemon.control
        try:
            async with asyncio.timeout(60):
                return await control.call_unary_handler(PeerID.from_base58(scene.node), name, data)
        except P2PHandlerError as error:
            return str(error)

    assert isinstance(scene.run(send()), bytes | str)


def test_calls_too_large_to_answer(scene: Scene) -> None:
    async def send(name: str, size: int) -> str:
        control = scene.stranger.swarm._daemon.control
        with pytest.raises(P2PHandlerError) as error:
            async with asyncio.timeout(60):
                await control.call_unary_handler(PeerID.from_base58(scene.node), name, bytes(size))
        return str(error.value)

    assert "in pieces" in scene.run(send("DHTProtocol.rpc_find", 100_000))


@fuzz(25)
@given(value=st.binary(max_size=500), shard=st.integers(0, 3), name=st.sampled_from(["node", "x"]))
def test_records_of_any_kind(scene: Scene, value: bytes, shard: int, name: str) -> None:
    """Under its owner's own name anyone may store anything; the directory reads on."""
    swarm = scene.stranger.swarm
    key = shard_key(scene.signed.grid, scene.entry.model_root, shard)

    async def store() -> list[PeerId]:
        await swarm.store(key, name, value, expires_at=time.time() + 20)
        return [record.peer for record in await Directory(swarm, scene.signed.grid).nodes(scene.entry.model_root)]

    assert set(scene.run(store())) == {scene.node, scene.second}


def test_a_record_that_lies(scene: Scene, expected: str) -> None:
    """A node that is said to be the fastest of all and is not there: new clients find around it."""
    record = NodeRecord(
        peer=scene.stranger.peer,
        version="9",
        model=scene.entry.model_root,
        start=0,
        end=8,
        state="serving",
        dtype="float32",
        blocks_per_s=1e9,
        free_tokens=2**60,
        total_tokens=2**60,
        next_hop_ms={},
        addresses=["/ip4/127.0.0.1/tcp/1", "nonsense"],
        since=0.0,
    )
    directory = Directory(scene.stranger.swarm, scene.signed.grid)
    scene.run(directory.publish(record))
    with Grid(scene.running.home / "data" / "gridllm") as grid:
        made = grid.model("demo").complete(PROMPT, max_new_tokens=TOKENS, temperature=0)
    scene.run(directory.retract())
    assert made.text == expected
    assert [peer for peer, _, _ in made.chain] == [scene.node, scene.second]


def test_records_cannot_be_hidden_behind_a_cached_one(scene: Scene) -> None:
    """hivemind prefers what anyone put into its cache; a node keeps none."""
    swarm = scene.stranger.swarm

    async def store() -> tuple[list[bool], list[PeerId]]:
        records = swarm._held
        protocol, refused = records._protocol, []
        for shard in range(4):
            key_id = records._key_id(shard_key(scene.signed.grid, scene.entry.model_root, shard))
            expires_at = time.time() + 600
            subkey = subkey_of(scene.stranger.identity, "node")
            packed = msgspec.msgpack.encode(subkey)
            signed = sign_record(
                scene.stranger.identity, key_id.to_bytes(), packed, msgspec.msgpack.encode(b"x"), expires_at
            )
            peer = PeerID.from_base58(scene.node)
            said = None
            while said is None:  # two seconds went by without an answer
                said = await protocol.call_store(
                    peer, [key_id], [signed], [expires_at], subkeys=[subkey], in_cache=[True]
                )
            refused += said
        nodes = await Directory(swarm, scene.signed.grid).nodes(scene.entry.model_root)
        return refused, [record.peer for record in nodes]

    stored, nodes = scene.run(store())
    assert stored == [False] * 4
    assert set(nodes) == {scene.node, scene.second}
