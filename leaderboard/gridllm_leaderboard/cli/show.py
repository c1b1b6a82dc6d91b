"""``gridllm leaderboard show``: all that is known of one submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from gridllm_leaderboard.cli.asking import GridOption, IdArgument, JsonOption

if TYPE_CHECKING:
    from gridllm_leaderboard.cli.show_facts import ItemRow, Portrait
    from gridllm_leaderboard.link import LeaderboardLink

ITEMS_SHOWN: Final = 30  # lines of a task


def show(
    submission: IdArgument,
    items: Annotated[bool, typer.Option("--items", help="Also list each item with the model's points.")] = False,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="With --items: only this task's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --items: at most this many lines per task.")] = ITEMS_SHOWN,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one submission: its origin, its tasks, each grader's result, and its duel with the champion.

    Example: gridllm leaderboard show my-model --items --task sums
    """
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, print_whole, room
    from gridllm.errors import UsageError
    from gridllm_leaderboard.cli.asking import the_leaderboard
    from gridllm_leaderboard.cli.show_tables import items_table
    from gridllm_leaderboard.cli.show_view import portrait_json, portrait_renderable

    if task is not None and not items:
        raise UsageError("--task goes with --items.")

    async def look() -> tuple[Portrait, dict[str, list[ItemRow]]]:
        async with the_leaderboard(grid) as link:
            portrait = await _portrait(link, submission)
            return portrait, await _items(link, portrait, task) if items else {}

    portrait, listed = run_async(look())
    if as_json:
        print_json(portrait_json(portrait, listed if items else None))
        return
    print_whole(portrait_renderable(portrait, room()))
    for name, rows in listed.items():
        print_whole(items_table(name, rows, limit, room()))


async def _portrait(link: LeaderboardLink, said: str) -> Portrait:
    """Raises LeaderboardError: a document is forged. SwarmError, Refusal."""
    from gridllm_leaderboard.cli.asking import dossier, submissions_of
    from gridllm_leaderboard.cli.show_facts import lineage, portrait_of
    from gridllm_leaderboard.verifying.annulled import verify_annulled
    from gridllm_leaderboard.verifying.live import Live

    found, live = await dossier(link, said), Live(link)
    void = verify_annulled(await live.annulled(), (), link.signed, live.account)
    row = await live.row(found.view.id) if found.view.state in ("graded", "withdrawn", "locked") else None
    names = {entry.root: entry.name for entry in link.signed.charter.models}
    bases: dict[str, str | None] = dict.fromkeys(names)
    if found.view.base is not None or found.lock is not None:
        _, everyone = await submissions_of(link, None)
        names |= {one.root: one.name for one in everyone}
        bases |= {one.root: one.base for one in everyone}
        names |= {one.id: one.name for one in everyone}
    return portrait_of(found, link.signed, row, lineage(found.view.base, names, bases), names, void)


async def _items(link: LeaderboardLink, portrait: Portrait, task: str | None) -> dict[str, list[ItemRow]]:
    """Raises LeaderboardError: no such task, or a list is not what it should be. SwarmError, Refusal."""
    from gridllm.errors import UsageError
    from gridllm_leaderboard.cli.show_facts import item_rows
    from gridllm_leaderboard.results import read_items, read_results

    tasks = [] if portrait.draw is None else [one for one in portrait.draw.items if task in (None, one.task)]
    if task is not None and not tasks:
        raise UsageError(f"The submission was not graded on a task {task!r}.")
    listed = {}
    for drawn in tasks:
        asked = read_items(await link.lines(drawn.root))
        results = []
        for statement in portrait.statements:
            if statement.counts:
                line = next(one for one in statement.grade.tasks if one.task == drawn.task)
                results.append(read_results(await link.lines(line.results)))
        listed[drawn.task] = item_rows(asked, results)
    return listed
