"""``gridllm leaderboard rank``: who is best."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption, WideOption

SHOWN: Final = 50  # rows


def rank(
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Rank by this task only.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also show withdrawn models and those graded by other tasks.")
    ] = False,
    wide: WideOption = False,
    grid: GridOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show the ranking: score with its 95% interval, each task, and what a model costs to run.

    Models that are too close to tell apart share a place, shown as =1. A narrow terminal gets the columns that fit;
    show has everything about one model. Models graded by other tasks, before the rules changed, are ranked separately.

    Example: gridllm leaderboard rank --task sums
    """
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, print_whole, room
    from gridllm.errors import UsageError
    from gridllm_leaderboard.cli.asking import MOST_ROWS, ranking, the_leaderboard
    from gridllm_leaderboard.cli.rank_view import rank_csv, rank_json, rank_renderable
    from gridllm_leaderboard.messages import Rank

    if as_json and as_csv:
        raise UsageError("Choose one of --json and --csv.")
    whole = everything or as_json or as_csv

    async def look() -> tuple[str, Rank]:
        async with the_leaderboard(grid) as link:
            rules = link.rules
            if task is not None and task not in {one.name for one in rules.tasks}:
                known = ", ".join(one.name for one in rules.tasks)
                raise UsageError(f"There is no task {task!r}; the leaderboard has: {known}.")
            found = await ranking(link, task, everything, MOST_ROWS if whole else SHOWN)
            return link.signed.charter.name, found

    name, found = run_async(look())
    if as_json:
        print_json(rank_json(found))
    elif as_csv:
        typer.echo(rank_csv(found), nl=False)
    else:
        print_whole(rank_renderable(found, name, task, None if wide else room()))
