"""``gridllm leaderboard regrade``: a model that other tasks graded is graded by those that hold now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, IdArgument, JsonOption


def regrade(
    id_: IdArgument,
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have your graded model graded again, without a fee, after the leaderboard's tasks or their weights changed.

    It queues behind models that have no place yet, and keeps its old place until then.

    Example: gridllm leaderboard regrade my-model
    """
    import time

    import msgspec

    from gridllm.cli.grid_view import printable
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.asking import dossier, the_leaderboard
    from gridllm_leaderboard.messages import REGRADE_CALL, Regrade, SubmissionView

    mine = load_or_create(load_settings(identity=identity).identity_path)

    async def ask() -> SubmissionView:
        async with the_leaderboard(grid) as link:
            found = (await dossier(link, id_)).view
            return await link.ask(REGRADE_CALL, Regrade(link.delegation(mine, time.time()), found.id), SubmissionView)

    view = run_async(ask())
    if as_json:
        print_json(msgspec.to_builtins(view))
    else:
        stdout().print(f"[bold green]{view.state.capitalize()}[/]: {printable(view.name)} ({view.id[:16]}…)")
        stdout().print("Watch it: gridllm leaderboard submissions", markup=False)
