"""Links over the in-memory network: messages, heartbeat, and each way a peer can be lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gridllm.errors import PeerLost, WireError
from gridllm.identity.keys import Identity
from gridllm.swarm import link as link_module
from gridllm.swarm.interface import Stream
from gridllm.swarm.link import BREATH_MESSAGES, LINK_STREAM, Link
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.messages import MAX_BODY_BYTES, AnyMessage, Close, Leaving, Ping, Refused, encode
from tests.unit.notes import until

SID = b"s" * 16


class Pair:
    """An opener's link and the accepter's, both running."""

    def __init__(self, network: MemoryNetwork, *, on_message: Callable[[Link, AnyMessage, bytearray], None]) -> None:
        self.network = network
        self.on_message = on_message
        self.opener: Link
        self.accepter: Link
        self.runs: dict[str, asyncio.Task[None]] = {}
        self.a: MemorySwarm
        self.b: MemorySwarm
        self.raw: Stream

    async def open(self, *, heartbeat_s: float = 0.05, silence_s: float = 0.2) -> Pair:
        self.a, self.b = self.network.join(Identity.ephemeral()), self.network.join(Identity.ephemeral())
        accepted: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

        async def accept(stream: Stream) -> None:
            link = Link(stream, on_message=self.on_message, heartbeat_s=heartbeat_s, silence_s=silence_s, opener=False)
            self.runs["accepter"] = asyncio.create_task(link.run())
            accepted.set_result(link)
            await asyncio.wait([self.runs["accepter"]])

        await self.b.serve_streams(LINK_STREAM, accept)
        self.raw = await self.a.open_stream(self.b.peer, LINK_STREAM)
        self.opener = Link(
            self.raw, on_message=self.on_message, heartbeat_s=heartbeat_s, silence_s=silence_s, opener=True
        )
        self.runs["opener"] = asyncio.create_task(self.opener.run())
        self.accepter = await accepted
        return self


def ignore(_link: Link, _message: AnyMessage, _body: bytearray) -> None:
    pass


async def test_messages_and_bodies_arrive_in_order() -> None:
    got: list[tuple[str, AnyMessage, bytes]] = []
    pair = await Pair(MemoryNetwork(), on_message=lambda k, m, b: got.append((k.peer, m, bytes(b)))).open()
    pair.opener.send(Close(SID))
    pair.opener.send(Leaving(3), b"body")
    pair.accepter.send(Leaving(4), memoryview(b"back"))
    await until(lambda: len(got) >= 3)
    assert [m for m in got if m[0] == pair.a.peer] == [
        (pair.a.peer, Close(SID), b""),
        (pair.a.peer, Leaving(3), b"body"),
    ]
    assert [m for m in got if m[0] == pair.b.peer] == [(pair.b.peer, Leaving(4), b"back")]
    await pair.opener.close()
    await pair.runs["opener"]  # closing it oneself is no error
    with pytest.raises(PeerLost, match="closed"):
        await pair.runs["accepter"]
    for side in (pair.opener, pair.accepter):
        with pytest.raises(PeerLost):
            side.send(Close(SID))
    await pair.opener.close()


async def test_the_opener_measures_the_round_trip_soon_after_opening() -> None:
    pair = await Pair(MemoryNetwork(latency_s=0.02), on_message=ignore).open(heartbeat_s=1.0, silence_s=5.0)
    assert pair.opener.rtt_s is None
    await until(lambda: pair.opener.rtt_s is not None)
    assert pair.opener.rtt_s is not None and pair.opener.rtt_s >= 0.04
    assert pair.accepter.rtt_s is None
    await pair.opener.close()


async def test_what_was_sent_is_known_to_have_arrived() -> None:
    got: list[AnyMessage] = []
    pair = await Pair(MemoryNetwork(latency_s=0.05), on_message=lambda _, message, __: got.append(message)).open()
    pair.opener.send(Close(SID))
    assert got == []
    await asyncio.wait_for(pair.opener.delivered(), 60)
    assert got == [Close(SID)]
    pair.network.freeze(pair.b.peer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pair.opener.delivered(), 0.1)
    with pytest.raises(PeerLost):
        await pair.runs["opener"]


async def test_an_idle_link_lives() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    await asyncio.sleep(1.0)  # five silences
    pair.opener.send(Close(SID))
    assert not pair.runs["opener"].done()
    assert not pair.runs["accepter"].done()
    await pair.opener.close()


async def test_a_frozen_peer_is_lost_to_either_side() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    await asyncio.sleep(0.05)
    pair.network.freeze(pair.b.peer)
    with pytest.raises(PeerLost, match="silent"):
        await pair.runs["opener"]
    assert not pair.runs["accepter"].done(), "it is more patient"
    with pytest.raises(PeerLost, match="silent"):
        pair.opener.send(Close(SID))
    with pytest.raises(PeerLost, match="silent"):
        await pair.runs["accepter"]


async def test_a_killed_peer_is_lost_at_once() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open(silence_s=300.0)
    pair.network.kill(pair.b.peer)
    async with asyncio.timeout(60):
        with pytest.raises(PeerLost):
            await pair.runs["opener"]


async def test_a_stall_of_our_own_loop_is_not_held_against_the_peer() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    await asyncio.sleep(0.06)
    time.sleep(0.7)  # noqa: ASYNC251 - the stall is the point
    await asyncio.sleep(0.1)
    assert not pair.runs["opener"].done()
    assert not pair.runs["accepter"].done()
    await pair.opener.close()


async def test_a_peer_that_lags_too_far_behind_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_WAITING_BYTES", 1_000_000)
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    pair.network.freeze(pair.b.peer)
    with pytest.raises(PeerLost, match="behind"):
        for _ in range(20):
            pair.opener.send(Close(SID), bytes(100_000))
    with pytest.raises(PeerLost, match="behind"):
        await pair.runs["opener"]


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x80", encode(Ping(1))[:-1]])
async def test_what_does_not_parse_ends_the_link_by_name(header: bytes) -> None:
    told: list[AnyMessage] = []
    pair = await Pair(MemoryNetwork(), on_message=lambda _link, message, _body: told.append(message)).open()
    pair.raw.send(header)
    with pytest.raises(WireError) as error:
        await pair.runs["accepter"]
    await until(lambda: bool(told))
    assert told == [Refused(None, None, "malformed", str(error.value))]
    with pytest.raises(PeerLost):
        await pair.runs["opener"]


async def test_a_flood_on_one_link_leaves_others_their_turn() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open(heartbeat_s=1.0, silence_s=300.0)
    for _ in range(20 * BREATH_MESSAGES):
        pair.raw.send(encode(Close(SID)))
    turns = 0
    while pair.raw.outgoing.waiting or pair.accepter._stream.unread:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 20
    await pair.opener.close()


async def test_a_message_that_is_too_large_harms_nothing() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    with pytest.raises(WireError):
        pair.opener.send(Close(SID), bytes(MAX_BODY_BYTES + 1))
    pair.opener.send(Close(SID))
    await asyncio.sleep(0.01)
    assert not pair.runs["opener"].done()
    await pair.opener.close()


async def test_a_pong_nobody_asked_for_is_ignored() -> None:
    pair = await Pair(MemoryNetwork(), on_message=ignore).open()
    pair.accepter.send(link_module.Pong(10**6))
    await asyncio.sleep(0.02)
    assert not pair.runs["opener"].done()
    await pair.opener.close()
