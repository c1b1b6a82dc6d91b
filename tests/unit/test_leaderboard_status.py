"""The status line of ``gridllm leaderboard run``: it shows how things stand, and ends nothing when it cannot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard import serve
from gridllm_leaderboard.desk.desk import Desk
from gridllm_leaderboard.reporter import Reporter


class Lines(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("testgrid", as_json=True)
        self.lines: list[str] = []

    def seen(self, sentence: str) -> None:
        self.lines.append(sentence)


def desk_that_says(*answers: str | Exception) -> Desk:
    """Each read of its books gives the next answer; after the last one nothing comes."""
    left = iter(answers)

    async def read(_work: object) -> str:
        found = next(left, None)
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, Exception):
            raise found
        return str(found)

    return cast("Desk", SimpleNamespace(books=SimpleNamespace(read=read)))


async def look(desk: Desk, lines: int) -> list[str]:
    """The first so many lines."""
    reporter = Lines()
    looking: asyncio.Task[Any] = asyncio.create_task(serve._look(desk, reporter))
    try:
        async with asyncio.timeout(60):
            while len(reporter.lines) < lines and not looking.done():  # noqa: ASYNC110 - a line rings no bell
                await asyncio.sleep(0.01)
        if looking.done():
            looking.result()  # raises what ended it
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return reporter.lines


async def test_a_line_that_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LOOK_EVERY_S", 0.01)
    busy = LeaderboardError("The leaderboard's database is busy.")
    assert await look(desk_that_says("1 submission", busy, busy, "2 submissions"), 2) == [
        "1 submission",
        "2 submissions",
    ]


async def test_a_fault_of_ours_ends_it_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LOOK_EVERY_S", 0.01)
    with pytest.raises(ZeroDivisionError):
        await look(desk_that_says("1 submission", ZeroDivisionError()), 2)
