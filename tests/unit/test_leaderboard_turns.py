"""Models are looked at in fair turns: no account's heavy ones hold up the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gridllm_leaderboard.desk import start
from gridllm_leaderboard.desk.turns import LANE_BYTES, MOST_CLOCKS, MOST_LANES, Turns, Waiting, lanes
from tests.unit.leaderboard_house import CREDIT, House, house

GIB = 2**30


def waiting(id_: str, account: str, gib: float, since: float = 0.0) -> Waiting:
    return Waiting(id_, account, int(gib * GIB), since)


def order(*coming: Waiting, now: float = 0.0) -> list[str]:
    """One lane: who is looked at after whom."""
    turns, left, found = Turns(), list(coming), []
    while (one := turns.next(left, [], 1, now)) is not None:
        turns.began(one, now)
        left.remove(one)
        found.append(one.id)
    return found


def test_small_ones_pass_large_ones_and_accounts_take_turns() -> None:
    crowd = [waiting(f"heavy {number}", f"a{number}", 20, since=number) for number in range(3)]
    small = [waiting("small", "b", 0.1, since=500.0)]
    assert order(*crowd, *small) == ["small", "heavy 0", "heavy 1", "heavy 2"]
    many = [waiting(f"one's {number}", "a", 1) for number in range(3)]
    assert order(*many, waiting("another's", "b", 1.5)) == ["one's 0", "another's", "one's 1", "one's 2"]


def test_a_large_one_is_not_passed_for_ever() -> None:
    large = waiting("large", "a", 20)
    late = [waiting(f"late {number}", f"b{number}", 0.1, since=large.takes_s + number) for number in range(3)]
    assert order(large, *late)[0] == "large"


def test_lanes() -> None:
    turns = Turns()
    large = [waiting(f"large {number}", f"a{number}", 20) for number in range(2)]
    small = waiting("small", "b", 0.1, since=10_000.0)
    assert turns.next([large[1]], [large[0]], 2, 0.0) is None  # one lane is kept for what is small
    assert turns.next([large[1], small], [large[0]], 2, 0.0) == small
    assert turns.next([large[1]], [large[0]], 3, 0.0) == large[1]
    assert turns.next([small], large, 2, 0.0) is None  # full
    assert turns.next([waiting("b's second", "b", 0.1)], [small], 4, 0.0) is None  # one of an account at a time
    assert turns.next([large[0]], [], 1, 0.0) == large[0]
    assert [lanes(memory, 8) for memory in (0, LANE_BYTES, 3 * LANE_BYTES, 99 * LANE_BYTES)] == [1, 1, 3, MOST_LANES]
    assert lanes(99 * LANE_BYTES, 2) == 2


def test_accounts_that_are_served_are_forgotten() -> None:
    turns = Turns()
    for number in range(MOST_CLOCKS + 50):
        now = 100.0 * number
        turns.began(waiting(str(number), str(number), 0.1, since=now), now)
    assert len(turns._clocks) < MOST_CLOCKS


async def test_a_look_that_takes_long_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, looked = asyncio.Event(), []

    async def check(self: House, folder: Path, manifest: Any) -> None:
        looked.append(folder.name)
        if len(looked) == 1:
            await go_on.wait()

    monkeypatch.setattr(House, "_check", check)
    monkeypatch.setattr(start, "lanes_now", lambda: 2)
    async with house(tmp_path, fee=CREDIT) as made:
        first = await made.submit(1)
        await made.until(first, "checking")
        second = await made.submit(2)  # of the same author
        third = await made.submit(3, made.second)
        await made.until(third, "unpaid")
        assert (await made.view(first)).state == (await made.view(second)).state == "checking"
        go_on.set()
        for id_ in (first, second):
            await made.until(id_, "unpaid")
    assert len(looked) == 3
