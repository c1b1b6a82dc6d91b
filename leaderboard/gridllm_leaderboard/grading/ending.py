"""Looks, while a model is graded, whether its round still wants the grade: hours of work may be for nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from gridllm.errors import GridError
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import ROUNDS_CALL, AskRounds, Rounds, RoundView

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 15.0
LAST_WORD_S: Final = 5.0  # for a grade that is being handed in, and may have ended the round itself

T = TypeVar("T")


class RoundOverError(GridError):
    """The round has come to its end; no more grades are wanted in it."""


async def unless_over(link: LeaderboardLink, number: int, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` makes, for as long as that round is open.

    Raises:
        RoundOverError: it came to its end first, and ``work`` was cancelled; says how.
    """
    working, looking = asyncio.create_task(work), asyncio.create_task(_end_of(link, number))
    try:
        await asyncio.wait((working, looking), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await asyncio.wait((working,), timeout=LAST_WORD_S)
        if working.done():
            return working.result()
        raise RoundOverError(looking.result())
    finally:
        for task in (working, looking):
            task.cancel()
        await asyncio.gather(working, looking, return_exceptions=True)


async def _end_of(link: LeaderboardLink, number: int) -> str:
    """How that round ended, once it has. A leaderboard that does not answer may be back soon: work goes on."""
    while True:
        try:
            found = await _round(link, number)
        except GridError as error:
            log.debug("How round %d stands is not known: %s", number, error)
        else:
            if found is not None and found.state == "annulled":
                return f"Round {number} was annulled ({found.why}): grades in it count for nothing, so none is made."
            if found is not None and found.state == "judged":
                return f"Round {number} is judged: no more grades are needed in it."
        await asyncio.sleep(LOOK_EVERY_S)


async def _round(link: LeaderboardLink, number: int) -> RoundView | None:
    """As the leaderboard tells it. Raises SwarmError, Refusal, WireError."""
    page = await link.ask(ROUNDS_CALL, AskRounds(0, 1), Rounds)
    if page.total > number:  # they are numbered from 1, and listed newest first
        page = await link.ask(ROUNDS_CALL, AskRounds(page.total - number, 1), Rounds)
    return next((one for one in page.rounds if one.round == number), None)
