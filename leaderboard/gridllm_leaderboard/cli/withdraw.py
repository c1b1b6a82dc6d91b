"""``gridllm leaderboard withdraw``: an author takes a model down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, IdArgument, JsonOption


def withdraw(
    id_: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw your submission: its weights are deleted, nodes stop serving it, its grades stay public.

    A champion cannot be withdrawn while it reigns, nor a model while it is graded.

    Example: gridllm leaderboard withdraw 3f9a04c1
    """
    import asyncio
    import time

    import msgspec

    from gridllm.cli.grid_view import printable
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.errors import NotAccepted
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.asking import dossier, the_leaderboard
    from gridllm_leaderboard.messages import WITHDRAW_CALL, SubmissionView, Withdraw
    from gridllm_leaderboard.statements import Withdrawal, sign

    mine = load_or_create(load_settings(identity=identity).identity_path)
    account = mine.public_key.hex()

    async def take_down() -> SubmissionView:
        async with the_leaderboard(grid) as link:
            view = (await dossier(link, id_)).view
            if view.account != account:
                raise NotAccepted(f"{view.name!r} is of {view.account[:16]}…; only its author can withdraw it.")
            if sys.stdin.isatty() and not yes and not as_json:
                question = f"Take {printable(view.name)} ({view.id[:16]}…) down for good?"
                await asyncio.to_thread(typer.confirm, question, abort=True)
            said = Withdrawal(grid=link.signed.grid, account=account, submission=view.id, issued=int(time.time()))
            return await link.ask(WITHDRAW_CALL, Withdraw(sign(said, mine)), SubmissionView)

    view = run_async(take_down())
    if as_json:
        print_json(msgspec.to_builtins(view))
    else:
        stdout().print(f"[bold green]Withdrawn[/]: {view.name} ({view.id[:16]}…)")
