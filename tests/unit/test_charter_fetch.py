"""Charter and manifests over an in-memory swarm: honest peers, lying ones, silent ones."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct

import pytest

from gridllm.charter import fetch
from gridllm.charter.document import sign_charter
from gridllm.charter.fetch import (
    CHARTER_CALL,
    MANIFEST_CALL,
    PIECE_BYTES,
    ask_for_manifest,
    fetch_charter,
    fetch_manifest,
    serve_charter,
)
from gridllm.errors import CallTimeout, CharterError, Malformed, ModelError, SwarmError, WireError, WrongModel
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from tests.charters import MAINTAINERS, charter

SIGNED = sign_charter(charter(), MAINTAINERS)
MANIFEST = os.urandom(2 * PIECE_BYTES + 77)
ROOT = ModelRoot(hashlib.sha256(MANIFEST).hexdigest())


class Pair:
    """A member of the grid and a newcomer."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.member: Swarm = self.network.join(Identity.ephemeral())
        self.newcomer: Swarm = self.network.join(Identity.ephemeral())

    async def lie(self, name: str, answer: bytes) -> None:
        async def handler(_peer: PeerId, _payload: bytes) -> bytes:
            return answer

        await self.member.serve_calls(name, handler)


@pytest.fixture
async def pair() -> Pair:
    return Pair()


async def test_charter(pair: Pair) -> None:
    await serve_charter(pair.member, SIGNED.raw, {})
    assert await fetch_charter(pair.newcomer, pair.member.peer) == SIGNED


async def test_a_forged_charter(pair: Pair) -> None:
    await pair.lie(CHARTER_CALL, SIGNED.raw.replace(b'"sig":"', b'"sig":"A', 1))
    with pytest.raises(CharterError):
        await fetch_charter(pair.newcomer, pair.member.peer)


async def test_no_charter_served(pair: Pair) -> None:
    with pytest.raises(SwarmError):
        await fetch_charter(pair.newcomer, pair.member.peer)


async def test_a_silent_peer(pair: Pair) -> None:
    await serve_charter(pair.member, SIGNED.raw, {})
    pair.network.freeze(pair.member.peer)
    with pytest.raises(CallTimeout):
        await fetch_charter(pair.newcomer, pair.member.peer, timeout_s=0.1)


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, len(MANIFEST)])
async def test_manifest_of_any_size(pair: Pair, size: int) -> None:
    manifest = MANIFEST[:size]
    root = ModelRoot(hashlib.sha256(manifest).hexdigest())
    manifests: dict[ModelRoot, bytes] = {}
    await serve_charter(pair.member, SIGNED.raw, manifests)
    manifests[root] = manifest
    assert await fetch_manifest(pair.newcomer, pair.member.peer, root) == manifest


async def test_unknown_model(pair: Pair) -> None:
    await serve_charter(pair.member, SIGNED.raw, {ROOT: MANIFEST})
    with pytest.raises(WrongModel, match="no manifest of the model abab"):
        await fetch_manifest(pair.newcomer, pair.member.peer, ModelRoot("ab" * 32))


async def test_a_manifest_that_is_not_the_one_asked_for(pair: Pair) -> None:
    await serve_charter(pair.member, SIGNED.raw, {ROOT: MANIFEST[:-1] + b"?"})
    with pytest.raises(ModelError, match="sent a manifest with digest"):
        await fetch_manifest(pair.newcomer, pair.member.peer, ROOT)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"short",
        struct.pack("!Q", 100),  # no progress, for ever
        struct.pack("!Q", 2) + b"too long",
        struct.pack("!Q", 2**40) + b"x",
    ],
)
async def test_malformed_pieces(pair: Pair, answer: bytes) -> None:
    await pair.lie(MANIFEST_CALL, answer)
    with pytest.raises(WireError, match="malformed piece"):
        await fetch_manifest(pair.newcomer, pair.member.peer, ROOT)


async def test_who_sends_byte_by_byte_is_left_for_another(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "WHOLE_S", 0.5)

    async def dribble(_peer: PeerId, payload: bytes) -> bytes:
        await asyncio.sleep(0.02)  # each well within its time
        at = int.from_bytes(payload[64:], "big")
        return struct.pack("!Q", len(MANIFEST)) + MANIFEST[at : at + 1]

    await pair.member.serve_calls(MANIFEST_CALL, dribble)
    honest = pair.network.join(Identity.ephemeral())
    await serve_charter(honest, SIGNED.raw, {ROOT: MANIFEST})
    with pytest.raises(CallTimeout, match=r"did not send all of the manifest .* within 0.5 s; ask another"):
        await fetch_manifest(pair.newcomer, pair.member.peer, ROOT)
    peers = {one.peer: one.addresses for one in (pair.member, honest)}
    async with asyncio.timeout(60):
        assert await ask_for_manifest(pair.newcomer, peers, ROOT) == MANIFEST


@pytest.mark.parametrize("request_bytes", [b"", b"x" * 71, b"\xff" * 72, b"x" * 73])
async def test_malformed_requests(pair: Pair, request_bytes: bytes) -> None:
    await serve_charter(pair.member, SIGNED.raw, {ROOT: MANIFEST})
    with pytest.raises(Malformed):
        await pair.newcomer.call(pair.member.peer, MANIFEST_CALL, request_bytes)


async def test_an_offset_beyond_the_end_is_harmless(pair: Pair) -> None:
    await serve_charter(pair.member, SIGNED.raw, {ROOT: MANIFEST})
    request = struct.pack("!64sQ", ROOT.encode(), 2**64 - 1)
    assert await pair.newcomer.call(pair.member.peer, MANIFEST_CALL, request) == struct.pack("!Q", len(MANIFEST))
