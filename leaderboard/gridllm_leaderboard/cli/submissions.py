"""``gridllm leaderboard submissions``: what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption, WideOption


def submissions(
    account: Annotated[
        str | None, typer.Option(metavar="PEER", help="Peer id or public key of an author; default: this machine's.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="All authors' submissions.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many rows, the newest.")] = 100,
    wide: WideOption = False,
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """List your submissions, how each stands, and what to do next.

    Example: gridllm leaderboard submissions
    """
    from gridllm.cli.credit import account_of_whom
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, print_whole, room
    from gridllm.errors import UsageError
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.asking import submissions_of, the_leaderboard
    from gridllm_leaderboard.cli.submissions_view import submissions_json, submissions_renderable
    from gridllm_leaderboard.messages import SubmissionView

    if everyone and account is not None:
        raise UsageError("Choose one of --account and --everyone.")
    whose = None if everyone else account_of_whom(account, load_settings(identity=identity))

    async def look() -> tuple[str, int, list[SubmissionView]]:
        async with the_leaderboard(grid) as link:
            total, found = await submissions_of(link, whose, limit)
            return link.signed.charter.name, total, found

    name, total, found = run_async(look())
    if as_json:
        print_json(submissions_json(found))
    else:
        print_whole(submissions_renderable(found, total, name, everyone=everyone, width=None if wide else room()))
