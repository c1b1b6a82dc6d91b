"""Asks for work again and again: a grader that is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gridllm.errors import GridError, LeaderboardError, NotAccepted, SwarmError
from gridllm_leaderboard.grading.ending import RoundOverError, unless_over
from gridllm_leaderboard.grading.grader import Done, Grader, PutOffError
from gridllm_leaderboard.grading.unable import UnableError
from gridllm_leaderboard.grading.work import fetch_sheets
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import Beyond
from gridllm_leaderboard.statements import id_of
from gridllm_leaderboard.tasks import Task

log = logging.getLogger(__name__)

ASK_EVERY_S: Final = 5.0  # while there is nothing to do: a question of a few hundred bytes
SILENT: Final = 2  # questions in a row without an answer; then the leaderboard is looked up again
PATIENCE_S: Final = 60.0  # the longest pause after what failed


@dataclass(frozen=True, slots=True)
class Told:
    """Whom to tell what happens."""

    done: Callable[[Done], None]
    trouble: Callable[[str], None]
    beyond: Callable[[Sequence[Beyond]], None] = lambda _: None
    """Hears, with each question for work, which models wait for a grader that is able to do more."""


async def grade_all(link: LeaderboardLink, grader: Grader, own: Mapping[str, Task], told: Told) -> int:
    """Grade everything that is wanted now; how many models were.

    Args:
        own: tasks that are kept here, by name.

    Raises:
        PutOffError: the last that could not be graded just now, once all others are.
        UnableError: the last that this grader is not able to grade, once all others are.
        GridError: the leaderboard cannot be asked, or is not to be trusted.
    """
    graded: set[tuple[str, str]] = set()
    unable: dict[tuple[str, str], UnableError] = {}
    while True:
        given, beyond = await grader.assignment(link)
        told.beyond(beyond)
        seen = graded | unable.keys()
        left = [] if given is None else [one for one in given.models if (id_of(given.draw), one.id) not in seen]
        if given is None or not left:
            for error in unable.values():
                raise error
            return len(graded)
        sheets = await fetch_sheets(given, link.lines, link.file, own)
        put_off: PutOffError | None = None
        for model in left:
            try:
                done = await unless_over(link, given.lock.round, grader.grade(link, given, model, sheets))
            except PutOffError as error:
                put_off = error
                told.trouble(str(error))
                continue
            except UnableError as error:
                unable[id_of(given.draw), model.id] = error
                told.trouble(str(error))
                continue
            except RoundOverError as error:
                told.trouble(str(error))
                graded |= {(id_of(given.draw), one.id) for one in left}
                put_off = None
                break
            except NotAccepted as error:  # the round is over, or another of this account was first
                told.trouble(f"The grade of {model.submission.name!r} was not taken: {error}")
                graded.add((id_of(given.draw), model.id))
                continue
            graded.add((id_of(given.draw), model.id))
            told.done(done)
        if put_off is not None:
            raise put_off


async def watch(link: LeaderboardLink, grader: Grader, own: Mapping[str, Task], told: Told) -> None:
    """Grade whatever comes until cancelled; what fails is told, and tried again.

    Raises:
        SwarmError: the leaderboard has not answered for a while; it may be elsewhere by now.
    """
    pause_s, silent = ASK_EVERY_S, 0
    while True:
        try:
            await grade_all(link, grader, own, told)
            pause_s, silent = ASK_EVERY_S, 0
        except SwarmError:
            silent += 1
            if silent >= SILENT:
                raise
        except LeaderboardError as error:
            told.trouble(str(error))
            pause_s = PATIENCE_S
        except GridError as error:
            if not isinstance(error, PutOffError | UnableError):
                told.trouble(str(error))
            pause_s = min(PATIENCE_S, 2 * pause_s)
        await asyncio.sleep(pause_s)
