"""Strangers of one address, who have as many names as they like, do not hold all streams of a seed."""

from __future__ import annotations

import asyncio

import pytest

from gridllm.errors import Full
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.seeding import Seeding, Shelf
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.weights import WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, encode
from tests.unit.notes import until
from tests.unit.test_models_seeding import demo

STREAMS = 8
SHARE = STREAMS // 2


class Crowded:
    """A seed with few streams; whoever is not named in ``hosts`` comes from one address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, common: str, *, first: bool = False) -> None:
        self.network = MemoryNetwork()
        self.home = self.network.join(Identity.ephemeral())
        folder, manifest, root = demo()
        shelf = Shelf()
        shelf.put(root, manifest, folder)
        self.author = self.network.join(Identity.ephemeral())
        self.seeding = Seeding(shelf, streams=STREAMS, first=lambda peer: first and peer == self.author.peer)
        self.hosts: dict[PeerId, str] = {}

        async def seen_at(peer: PeerId) -> tuple[str, ...]:
            return (f"/ip4/{self.hosts.get(peer, common)}/tcp/31337",)

        monkeypatch.setattr(self.home, "seen_at", seen_at)

    async def open(self, who: MemorySwarm | None = None) -> Stream:
        return await (who or self.network.join(Identity.ephemeral())).open_stream(self.home.peer, WEIGHTS_STREAM)

    async def crowd(self, count: int, *, ask: bool = False) -> list[Stream]:
        """So many streams, each of another name, that are silent, or are so after one question."""
        await self.seeding.serve(self.home)
        held = [await self.open() for _ in range(count)]
        for stream in held if ask else []:
            assert isinstance(await answer(stream), Piece)
        await until(lambda: self.seeding.readers == count)
        return held


async def answer(stream: Stream, *, asked: bool = True) -> Piece | Declined:
    """To a question, or to none."""
    if asked:
        await stream.write(encode(Want(demo()[2], next(iter(demo()[1].tensors)), 0)))
    async with asyncio.timeout(60):
        return decode_answer((await stream.read()).header)


@pytest.mark.parametrize("ask", [False, True], ids=["silent", "asked-once"])
async def test_strangers_of_one_address_leave_streams_to_those_of_others(
    monkeypatch: pytest.MonkeyPatch, ask: bool
) -> None:
    grid = Crowded(monkeypatch, "203.0.113.7")
    held = await grid.crowd(SHARE, ask=ask)
    await until(lambda: len(grid.seeding._silent) == SHARE)
    declined = await answer(await grid.open(), asked=False)
    assert isinstance(declined, Declined) and declined.code == Full.code and "your address" in declined.text
    grid.hosts[grid.author.peer] = "203.0.113.8"
    assert isinstance(await answer(await grid.open(grid.author)), Piece)
    for stream in held:
        await stream.close()
    await until(lambda: len(grid.seeding._silent) == 1)
    assert isinstance(await answer(await grid.open()), Piece), "the address has its share again"


async def test_whoever_goes_first_does_so_from_a_crowded_address(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "203.0.113.7", first=True)
    await grid.crowd(SHARE)
    await until(lambda: len(grid.seeding._silent) == SHARE)
    assert isinstance(await answer(await grid.open(grid.author)), Piece)


async def test_a_grid_on_one_machine_has_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "127.0.0.1")
    await grid.crowd(STREAMS - 1, ask=True)
    assert isinstance(await answer(await grid.open()), Piece)


async def test_readers_at_work_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Crowded(monkeypatch, "203.0.113.7")
    going_on = asyncio.Event()
    piece = grid.seeding._piece

    async def slowly(want: Want) -> tuple[int, bytes]:
        await going_on.wait()
        return await piece(want)

    monkeypatch.setattr(grid.seeding, "_piece", slowly)
    await grid.seeding.serve(grid.home)
    streams: list[Stream] = []
    for number in range(STREAMS):
        streams.append(await grid.open())
        await streams[-1].write(encode(Want(demo()[2], next(iter(demo()[1].tensors)), 0)))
        await until(lambda want=number + 1: grid.seeding.readers == want and not len(grid.seeding._silent))
    going_on.set()
    for stream in streams:
        assert isinstance(await answer(stream, asked=False), Piece)
