"""When a first peer begins to measure: at its start, or when an amendment closes an open grid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.charter.minimums import Admission
from gridllm.charter.notices import AMENDMENT_TYPE, Amendment
from gridllm.errors import CharterError
from gridllm.identity.statement import sign_statement
from gridllm_bootstrap.measuring.authority import Authority
from gridllm_bootstrap.measuring.opening import Opening
from tests.charters import MAINTAINERS, charter

OPEN = sign_charter(charter(admission=Admission(required=False)), MAINTAINERS)
CLOSED = sign_charter(charter(admission=Admission(required=True)), MAINTAINERS)


@pytest.fixture(autouse=True)
def _nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridllm_bootstrap.measuring.opening.warm_up", lambda: None)


def amended(serial: int, *, required: bool) -> bytes:
    amendment = Amendment(
        grid=OPEN.grid, serial=serial, issued=int(time.time()), admission=Admission(required=required)
    )
    return sign_statement(amendment, AMENDMENT_TYPE, MAINTAINERS)


class Measuring:
    """An office that counts."""

    crowd = (1, 2)

    def __init__(self) -> None:
        self.open = 0
        self.told = 0

    @asynccontextmanager
    async def office(self) -> AsyncIterator[Authority]:
        self.open += 1
        try:
            yield cast(Any, self)
        finally:
            self.open -= 1

    def later(self) -> None:
        self.told += 1


async def test_an_amendment_opens_the_office() -> None:
    board, made = NoticeBoard(OPEN), Measuring()
    opening = Opening(board, made.office, made.later)
    running = asyncio.create_task(opening.run())
    await asyncio.sleep(0.05)
    board.add(amended(1, required=False))
    await asyncio.sleep(0.05)
    assert (made.open, opening.crowd) == (0, (0, 0))
    board.add(amended(2, required=True))
    async with asyncio.timeout(60):
        await opening.opened(running)
    await asyncio.sleep(0)
    assert (made.open, made.told, opening.crowd) == (1, 1, (1, 2))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert made.open == 0


async def test_where_it_is_asked_for_from_the_start_nothing_is_told() -> None:
    made = Measuring()
    opening = Opening(NoticeBoard(CLOSED), made.office, made.later)
    running = asyncio.create_task(opening.run())
    async with asyncio.timeout(60):
        await opening.opened(running)
    assert (made.open, made.told) == (1, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_hinders_it_is_raised() -> None:
    @asynccontextmanager
    async def hindered() -> AsyncIterator[Authority]:
        raise CharterError("The manifest is missing.")
        yield

    opening = Opening(NoticeBoard(CLOSED), hindered, lambda: None)
    async with asyncio.timeout(60):
        with pytest.raises(CharterError, match="manifest"):
            await opening.opened(asyncio.create_task(opening.run()))
