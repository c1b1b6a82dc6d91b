"""What the commands that ask the leaderboard share: the way to it, whole listings, submissions by id or name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from gridllm.cli.work import Work
    from gridllm_leaderboard.link import LeaderboardLink
    from gridllm_leaderboard.messages import Dossier, Rank, RankRow, SubmissionView

GridOption = Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Show all columns, even in a narrow terminal.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Submission id (at least 8 digits), model name, or @champion.")
]

LOOKING: Final = "Looking for the leaderboard of {}"
MOST_ROWS: Final = 100_000  # of a listing that is fetched whole


@asynccontextmanager
async def the_leaderboard(grid: str | None, shown: Work | None = None) -> AsyncIterator[LeaderboardLink]:
    """A line to the leaderboard of ``grid``; ``shown``: tells what goes on, where that is shown already.

    Raises:
        CharterError, LeaderboardError, SwarmError: there is none, or it does not answer.
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.work import step
    from gridllm.settings import load_settings
    from gridllm_leaderboard.link import asking_leaderboard

    pins = Pins(load_settings().data_dir)
    signed = pins.current(grid)
    async with AsyncExitStack() as stack:
        with (
            step(LOOKING.format(signed.charter.name))
            if shown is None
            else shown.during(LOOKING.format(signed.charter.name))
        ):
            link = await stack.enter_async_context(asking_leaderboard(signed, pins))
        yield link


async def ranking(link: LeaderboardLink, task: str | None, everyone: bool, limit: int) -> Rank:
    """The first ``limit`` rows. Raises SwarmError, Refusal."""
    from gridllm_leaderboard.messages import MAX_PAGE, RANK_CALL, AskRank, Rank

    rows: list[RankRow] = []
    while True:
        ask = AskRank(task, everyone, len(rows), min(MAX_PAGE, limit - len(rows)))
        page = await link.ask(RANK_CALL, ask, Rank)
        rows += page.rows[: limit - len(rows)]
        if not page.rows or len(rows) >= min(limit, page.total):
            return Rank(page.total, page.tasks, rows, page.older, page.rules)


async def submissions_of(
    link: LeaderboardLink, account: str | None, limit: int = MOST_ROWS
) -> tuple[int, list[SubmissionView]]:
    """How many there are, and the newest ``limit``; None: everybody's. Raises SwarmError, Refusal."""
    from gridllm_leaderboard.messages import MAX_PAGE, SUBMISSIONS_CALL, AskSubmissions, Submissions

    found: list[SubmissionView] = []
    while True:
        ask = AskSubmissions(account, len(found), min(MAX_PAGE, limit - len(found)))
        page = await link.ask(SUBMISSIONS_CALL, ask, Submissions)
        found += page.submissions[: limit - len(found)]
        if not page.submissions or len(found) >= min(limit, page.total):
            return page.total, found


async def dossier(link: LeaderboardLink, said: str) -> Dossier:
    """All documents about the submission that ``said`` names.

    Raises:
        LeaderboardError: it names none.
        SwarmError, Refusal: see ``link.ask``.
    """
    from gridllm.errors import LeaderboardError, NotHeld
    from gridllm_leaderboard.messages import DOSSIER_CALL, AskDossier, Dossier

    if re.fullmatch(r"[0-9a-f]{8,64}", said.lower()):
        try:
            found = await link.ask(DOSSIER_CALL, AskDossier(said.lower()), Dossier)
            if not found.view.id.startswith(said.lower()):
                raise LeaderboardError(f"The leaderboard sent the submission {found.view.id} in place of {said}.")
            return found
        except NotHeld:
            if len(said) == 64:  # no model's name is that long
                raise
    return await link.ask(DOSSIER_CALL, AskDossier(await _id_named(link, said)), Dossier)


async def _id_named(link: LeaderboardLink, said: str) -> str:
    from gridllm.charter.catalogue import CHAMPION
    from gridllm.errors import LeaderboardError
    from gridllm_leaderboard.listings import reigns

    if said == CHAMPION:
        found = await reigns(link)
        if not found:
            raise LeaderboardError("There is no champion yet; the first comes with the first submission.")
        return found[-1].submission
    _, everyone = await submissions_of(link, None)
    named = [one.id for one in everyone if one.name.casefold() == said.casefold()]
    if not named:
        raise LeaderboardError(
            f"The leaderboard has no submission {said!r}; give its id (8 digits at least) or its model's name, as "
            "gridllm leaderboard submissions --everyone lists them."
        )
    return named[0]
