"""Strangers, who have as many names as they like, do not hold a seed's streams while others wait for one."""

from __future__ import annotations

import asyncio

import pytest

from gridllm.errors import Full, GaveWay
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.seeding import WAITED_FOR, Seeding, Shelf
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.weights import WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, encode
from tests.unit.notes import until
from tests.unit.test_models_seeding import demo

STREAMS = 8


class Crowded:
    """A seed with few streams, in a time that the test sets; whoever is not in ``hosts`` comes from one address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, common: str, *, first: bool = False) -> None:
        self.network = MemoryNetwork()
        self.home = self.network.join(Identity.ephemeral())
        self.now_s = 0.0
        folder, manifest, root = demo()
        shelf = Shelf()
        shelf.put(root, manifest, folder)
        self.author = self.network.join(Identity.ephemeral())
        before = (lambda peer: peer == self.author.peer) if first else lambda _: False
        self.seeding = Seeding(shelf, streams=STREAMS, first=before, clock=lambda: self.now_s)
        self.hosts: dict[PeerId, str] = {}

        async def seen_at(peer: PeerId) -> tuple[str, ...]:
            return (f"/ip4/{self.hosts.get(peer, common)}/tcp/31337",)

        monkeypatch.setattr(self.home, "seen_at", seen_at)

    async def open(self, who: MemorySwarm | None = None) -> Stream:
        return await (who or self.network.join(Identity.ephemeral())).open_stream(self.home.peer, WEIGHTS_STREAM)

    async def crowd(self, *, ask: bool = False) -> list[Stream]:
        """All streams, each of another name, that are silent, or are so after one question."""
        await self.seeding.serve(self.home)
        held = [await self.open() for _ in range(STREAMS)]
        for stream in held if ask else []:
            assert isinstance(await answer(stream), Piece)
        await until(lambda: len(self.seeding._seats) == STREAMS)
        return held


async def answer(stream: Stream, *, asked: bool = True) -> Piece | Declined:
    """To a question, or to none."""
    if asked:
        await stream.write(encode(Want(demo()[2], next(iter(demo()[1].tensors)), 0)))
    async with asyncio.timeout(60):
        return decode_answer((await stream.read()).header)


@pytest.mark.parametrize(("ask", "patience_s"), [(False, WAITED_FOR.first_s), (True, WAITED_FOR.most_s)])
async def test_the_silent_give_way_once_somebody_waits(
    monkeypatch: pytest.MonkeyPatch, ask: bool, patience_s: float
) -> None:
    grid = Crowded(monkeypatch, "127.0.0.1")
    held = await grid.crowd(ask=ask)
    refused = await answer(await grid.open(), asked=False)
    assert isinstance(refused, Declined) and refused.code == Full.code
    grid.now_s += 10 * patience_s + 1  # since when nobody asked, and nobody waited
    assert isinstance(await answer(await grid.open()), Piece)
    sent_away = await answer(held[0], asked=False)
    assert isinstance(sent_away, Declined) and sent_away.code == GaveWay.code and "come again" in sent_away.text
    assert len(grid.seeding._seats) == STREAMS
    assert isinstance(await answer(held[1]), Piece), "there was one who waited, and one gave way"


async def test_strangers_of_one_address_leave_streams_to_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "203.0.113.7")
    held = await grid.crowd()
    for _ in range(20):
        grid.now_s += WAITED_FOR.first_s - 1
        for stream in held:
            assert isinstance(await answer(stream), Piece)
    grid.hosts[grid.author.peer] = "203.0.113.8"
    refused = await answer(await grid.open(), asked=False)
    assert isinstance(refused, Declined) and refused.code == Full.code, "from the same address"
    assert isinstance(await answer(await grid.open(grid.author)), Piece)


async def test_whoever_goes_first_need_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "203.0.113.7", first=True)
    await grid.crowd(ask=True)
    assert isinstance(await answer(await grid.open(grid.author)), Piece)
    assert len(grid.seeding._seats) == STREAMS + 1


async def test_readers_at_work_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "127.0.0.1")
    going_on = asyncio.Event()
    piece = grid.seeding._piece
    asked = []

    async def slowly(want: Want) -> tuple[int, bytes]:
        asked.append(want)
        await going_on.wait()
        return await piece(want)

    monkeypatch.setattr(grid.seeding, "_piece", slowly)
    streams = await grid.crowd()
    for stream in streams:
        await stream.write(encode(Want(demo()[2], next(iter(demo()[1].tensors)), 0)))
    await until(lambda: len(asked) == STREAMS)
    grid.now_s += 1000  # this seed's disk is slow
    refused = await answer(await grid.open(), asked=False)
    assert isinstance(refused, Declined) and refused.code == Full.code
    going_on.set()
    for stream in streams:
        assert isinstance(await answer(stream, asked=False), Piece)
