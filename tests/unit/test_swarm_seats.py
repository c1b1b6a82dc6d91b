"""Places that strangers hold: the silent and the slow give way first, then the most crowded address."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gridllm.errors import Full, GaveWay
from gridllm.ids import PeerId
from gridllm.swarm.giving_way import Holder, Terms, who_gives_way
from gridllm.swarm.seats import Seat, Seats

TERMS = Terms(first_s=5, bytes_per_s=1000, least_s=2, most_s=20, turn_s=30)
A, B, C = "203.0.113.1", "203.0.113.2", "203.0.113.3"


@pytest.mark.parametrize(
    ("holders", "places", "expected"),
    [
        ([], [A], None),
        ([Holder(0.1, 500), Holder(3, 500)], [], None),
        ([Holder(-1, 9), Holder(-4, 6), Holder(7, 80)], [A], 1),
        ([Holder(-9, 9, first=True), Holder(-1, 6)], [A], 1),
        ([Holder(-9, 9, first=True), Holder(1, 6)], [A], 0),
        ([Holder(5, 40, [A]), Holder(5, 50, [A]), Holder(5, 90, [B])], [C], 1),
        ([Holder(5, 40, [A]), Holder(5, 50, [A]), Holder(5, 90, [B])], [B], None),
        ([Holder(5, 40, [A]), Holder(5, 50, [A]), Holder(5, 90, [A])], [B], 2),
        ([Holder(5, 29, [A]), Holder(5, 28, [A])], [C], None),
        ([Holder(5, 40, [A], first=True), Holder(5, 50, [A], first=True)], [C], None),
        ([Holder(5, 40), Holder(5, 50)], [C], None),
    ],
    ids=[
        "empty", "at work, from nowhere known", "longest overdue", "strangers before others", "others if overdue alone",
        "most crowded, longest there", "one's own is as crowded", "three are more than one", "its turn is not over",
        "not those who go first", "of unknown places nobody is many",
    ],
)  # fmt: skip
def test_who_gives_way(holders: list[Holder], places: list[str], expected: int | None) -> None:
    assert who_gives_way(holders, places, TERMS.turn_s) == expected


@pytest.mark.parametrize(
    ("left_s", "nbytes", "expected"), [(5, 3000, 8), (-60, 3000, 3), (1, 0, 3), (-60, 0, 2), (19, 9000, 20)]
)
def test_bytes_buy_time(left_s: float, nbytes: int, expected: float) -> None:
    assert TERMS.bought(left_s, nbytes) == expected


class Pool:
    """Of three places, two for each peer, in a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.hosts: dict[str, str] = {}
        self.seats = Seats(3, 2, TERMS, "All are taken.", clock=lambda: self.now_s)
        self.stack = AsyncExitStack()

    async def seen_at(self, peer: PeerId) -> tuple[str, ...]:
        return (f"/ip4/{self.hosts[peer]}/tcp/1",) if peer in self.hosts else ()

    async def take(self, name: str, *, first: bool = False) -> Seat:
        return await self.stack.enter_async_context(self.seats.one(PeerId(name), self.seen_at, first=first))


async def test_a_place_is_held_while_its_peer_is_worked_for_and_lost_while_it_is_silent() -> None:
    pool = Pool()
    async with pool.stack:
        one, two, three = [await pool.take(name) for name in "abc"]
        pool.now_s = 100.0  # nobody was waited for
        with pytest.raises(Full, match="All are taken"):
            await pool.take("d")
        async with two.waiting(60):
            with pytest.raises(GaveWay, match="come again"):
                async with one.waiting(60):
                    pool.now_s += 4
                    with pytest.raises(Full):
                        await pool.take("d")
                    two.moved(2000)
                    pool.now_s += 2
                    await pool.take("d")
                    await asyncio.sleep(60)
            assert pool.seats.peers == {PeerId("b"), PeerId("c"), PeerId("d")}
        with pytest.raises(GaveWay):
            async with one.waiting(60):
                raise AssertionError("nothing is waited for any more")
        assert three.holder().left_s == TERMS.first_s
    assert not len(pool.seats) and not pool.seats.peers


async def test_a_peer_that_comes_back_has_the_place_of_its_dead_stream() -> None:
    pool = Pool()
    async with pool.stack:
        dead, _ = await pool.take("a"), await pool.take("a")
        with pytest.raises(Full):
            await pool.take("a")  # there is a third place: for others
        with pytest.raises(GaveWay):
            async with dead.waiting(60):
                pool.now_s += 6
                await pool.take("a")
                await asyncio.sleep(60)
        assert len(pool.seats) == 2


async def test_who_goes_first_has_a_place_though_all_are_taken() -> None:
    pool = Pool()
    async with pool.stack:
        for name in "abc":
            await pool.take(name)
        await pool.take("author", first=True)
        assert len(pool.seats) == 4
        with pytest.raises(Full):
            await pool.take("d")


async def test_an_address_with_many_names_leaves_places_to_others() -> None:
    pool = Pool()
    pool.hosts = dict.fromkeys("abcd", A) | {"e": B}
    async with pool.stack:
        for name in "abc":
            await pool.take(name)
        with pytest.raises(Full):
            await pool.take("e")  # their turn is not over
        pool.now_s = TERMS.turn_s
        with pytest.raises(Full):
            await pool.take("d")
        await pool.take("e")
        assert PeerId("e") in pool.seats.peers


async def test_who_gives_way_while_it_is_worked_for_hears_it_when_it_is_waited_for() -> None:
    pool = Pool()
    async with pool.stack:
        seat = await pool.take("a")
        async with seat.waiting(60):
            pool.now_s += 6
        for name in "bcd":
            await pool.take(name)
        assert pool.seats.peers == {PeerId("b"), PeerId("c"), PeerId("d")}
        with pytest.raises(GaveWay):
            async with seat.waiting(60):
                raise AssertionError("nothing is waited for any more")


async def test_a_wait_has_an_end_though_nobody_waits_and_what_fails_in_it_says_so() -> None:
    pool = Pool()
    async with pool.stack:
        seat = await pool.take("a")
        with pytest.raises(TimeoutError):
            async with seat.waiting(0.01):
                await asyncio.sleep(60)
        with pytest.raises(ValueError, match="its own"):
            async with seat.waiting(60):
                raise ValueError("its own")
        assert len(pool.seats) == 1


async def test_those_who_are_told_to_leave_are_no_more_than_there_are_places() -> None:
    pool = Pool()
    async with pool.stack:
        held = [await pool.take(name) for name in "abc"]
        for name in "def":
            for seat in held:
                seat._left_s = -1.0
            held = [*held, await pool.take(name)][-3:]
        held[0]._left_s = -1.0
        with pytest.raises(Full):
            await pool.take("g")
