"""``gridllm leaderboard verify``: take nobody's word for a submission's place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, IdArgument, JsonOption

if TYPE_CHECKING:
    from gridllm.cli.work import Work
    from gridllm_leaderboard.verifying.walk import Walk


def verify(
    submission: IdArgument,
    sample: Annotated[int, typer.Option(min=1, max=5000, help="Items to run here, chosen at random.")] = 20,
    no_rerun: Annotated[bool, typer.Option("--no-rerun", help="Check documents only; fetch and run no model.")] = False,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the model's files, instead of fetching them.")
    ] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a submission's grading yourself: signatures, the draw of its items, results, verdict, place.

    It draws generated items again from the seed, recomputes the verdict from all grades of the round, and runs some
    items on the model here. Exits with 1 if something is wrong, and names the first fault.

    Example: gridllm leaderboard verify @champion --sample 50
    """
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.cli.work import work
    from gridllm_leaderboard.cli.verify_view import check_text, verify_json
    from gridllm_leaderboard.verifying.walk import UnsoundError, Walk

    if not no_rerun:
        _check_harness()
    walk = Walk((lambda _: None) if as_json else lambda check: stdout().print(check_text(check)))
    try:
        with work() as shown:
            run_async(_verify(submission, 0 if no_rerun else sample, model, grid, walk, shown))
    except UnsoundError as error:
        if not as_json:
            raise
        print_json(verify_json(walk.checks, str(error)))
        raise typer.Exit(1) from error
    if as_json:
        print_json(verify_json(walk.checks, None))
    else:
        stdout().print("All that was checked is sound.", style="bold green")


async def _verify(asked: str, sample: int, model: Path | None, grid: str | None, walk: Walk, shown: Work) -> None:
    """``sample`` 0: run nothing. Raises UnsoundError, SwarmError and others."""
    import os

    from gridllm.charter.pin import Pins
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.asking import dossier, the_leaderboard
    from gridllm_leaderboard.verifying.crowned import verify_crown
    from gridllm_leaderboard.verifying.examine import examine
    from gridllm_leaderboard.verifying.live import Here, Live, rerun

    settings = load_settings()
    async with the_leaderboard(grid, shown) as link:
        shown.tell("Fetching its documents")
        named = await dossier(link, asked)
        live = Live(link)
        found = await examine(live, link.signed, named.view.id, walk, shown.tell)
        if found.verdict is not None:
            with walk.step("the crown") as step:
                step.detail = verify_crown(link.board.crown, found.verdict, found.submission)
        what = "a run here"
        if not sample or found.rules is None:
            walk.leave_out(what, "as asked" if not sample else "there is nothing to compare it with yet")
        elif named.view.state == "withdrawn" and model is None:
            walk.leave_out(what, "its author withdrew the weights; name your copy of them with --model")
        elif not named.view.serve and model is None:
            walk.leave_out(what, "its author gives the weights to graders only; name your copy with --model")
        else:
            tasks = {rule.name: task for rule in found.rules.tasks if (task := await live.task(rule)) is not None}
            threads = settings.threads or os.cpu_count() or 1
            here = Here(Pins(settings.data_dir), settings.cache_dir, model, threads, shown.tell)
            await rerun(link, found, tasks, sample, walk, here)


def _check_harness() -> None:
    from importlib.util import find_spec

    from gridllm.errors import UsageError

    if find_spec("lm_eval") is None:
        raise UsageError("Running items needs lm_eval: pip install 'gridllm[grading]', or add --no-rerun.")
