"""``gridllm leaderboard annul``: its maintainer gives a round up."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridllm_leaderboard.cli.database import DatabaseOption, HomeOption, JsonOption, NameOption, place_at, store_at


def annul(
    number: Annotated[
        int, typer.Argument(metavar="ROUND", min=1, help="Number of the round; it must have no verdict.")
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason; everybody can read it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    database: DatabaseOption = None,
    home: HomeOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare an open round void: no scores, no bounty; its submissions wait for the next one at no new fee.

    Run it on the leaderboard's machine, whether or not the leaderboard is running. A round whose keeper or graders are
    gone for good is annulled automatically once the rules' patience is over (init --patience). Items that were drawn
    stay used. Each annulment is public (history, show, verify): it could be abused to draw items until they suit.

    Example: gridllm leaderboard annul 12 --why "the keeper's disk is lost"
    """
    import time

    from gridllm.cli.show import print_json, stdout
    from gridllm.errors import UsageError
    from gridllm.identity.keys import load
    from gridllm.quantities import count_things
    from gridllm_leaderboard.desk import annulling

    reason = why.strip()
    if not 1 <= len(reason) <= annulling.MAX_REASON:
        raise UsageError(f"--why takes a reason of 1 to {annulling.MAX_REASON} characters, for people.")
    grid, place = place_at(home, name)
    identity = load(place.key)
    with store_at(place, database, there=True) as store:
        if sys.stdin.isatty() and not yes and not as_json:
            typer.confirm(f"Declare round {number} void for good?", abort=True)
        with store.writing() as batch:
            found = annulling.annul(batch, number, reason, identity, int(time.time()))
            if found.lock.grid != grid:  # raised in here, nothing is written
                raise UsageError("That database is of another grid's leaderboard; name the right one with --database.")
    waiting = list(found.lock.submissions)
    if as_json:
        print_json({"round": number, "why": reason, "drawn": found.draw is not None, "submissions": waiting})
        return
    stdout().print(
        f"[bold green]Annulled[/]: round {number}. Queued again: {count_things(len(waiting), 'submission')}. "
        "A running leaderboard continues within half a minute."
    )
