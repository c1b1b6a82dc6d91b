"""Who saw every member fall silent at once greets the first peers again, rather than taking the grid for empty."""

from __future__ import annotations

import asyncio

import pytest

from gridllm.errors import SwarmError, Unreachable
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.way_back import PAUSE_S, WayBack

FIRST = [(Identity.ephemeral().peer, f"/ip4/127.0.0.1/tcp/{number}") for number in (1, 2)]


class Silence:
    """Members that were forgotten; ``awake`` first peers answer again."""

    def __init__(self, *awake: PeerId) -> None:
        self.known: set[PeerId] = set()
        self.awake = set(awake)
        self.dialled: list[PeerId] = []
        self.now = 100.0
        self.way_back = self.made(FIRST)

    def made(self, first: list[tuple[PeerId, str]]) -> WayBack:
        return WayBack(first, self.connect, self.greet, lambda: not self.known, clock=lambda: self.now)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float) -> None:
        self.dialled.append(peer)
        if peer not in self.awake:
            raise Unreachable("Nobody there.")

    async def greet(self, peer: PeerId) -> None:
        async def note() -> None:
            self.known.add(peer)

        self.noting = asyncio.create_task(note())  # as hivemind does

    async def fetch(self) -> dict[str, int]:
        return {"record": 1} if self.known else {}


async def test_a_reader_that_knows_nobody_greets_the_first_peers_before_it_reads() -> None:
    silence = Silence(FIRST[1][0])
    assert await silence.way_back.read(silence.fetch) == {"record": 1}
    assert set(silence.dialled) == {peer for peer, _ in FIRST}
    assert await silence.way_back.read(silence.fetch) == {"record": 1}
    assert len(silence.dialled) == 2, "once is enough"


async def test_a_reader_whom_nobody_answers_asks_once_more() -> None:
    silence = Silence(FIRST[0][0])
    silence.known.add(FIRST[0][0])

    async def fetch() -> dict[str, int]:
        if not silence.dialled:
            silence.known.clear()
            raise Unreachable("None of the 1 members known here answered.")
        return await silence.fetch()

    assert await asyncio.gather(*(silence.way_back.read(fetch) for _ in range(4))) == [{"record": 1}] * 4
    assert len(silence.dialled) == 2, "four readers try together"


async def test_where_nobody_is_the_readers_are_told_so_and_do_not_try_each_time() -> None:
    silence = Silence()

    async def fetch() -> dict[str, int]:
        raise Unreachable("None answered.")

    for expected in (2, 2, 4):
        with pytest.raises(Unreachable, match="None answered"):
            await silence.way_back.read(fetch)
        assert len(silence.dialled) == expected
        silence.now += PAUSE_S / 2
    assert await silence.way_back.read(silence.fetch) == {}


async def test_who_knows_no_first_peers_reads_as_ever() -> None:
    silence = Silence()
    assert await silence.made([]).read(silence.fetch) == {}
    assert silence.dialled == []


async def test_a_greeting_that_fails_is_no_error_of_the_reader() -> None:
    silence = Silence(FIRST[0][0])

    async def refuse(peer: PeerId) -> None:
        raise SwarmError("It hung up.")

    silence.greet = refuse  # type: ignore[method-assign]
    assert await silence.made(FIRST).read(silence.fetch) == {}
