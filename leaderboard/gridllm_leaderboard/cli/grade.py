"""``gridllm leaderboard grade``: grade what others submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption
from gridllm_leaderboard.cli.means import DtypeOption, MemoryOption, ViaOption

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm_leaderboard.grading.grader import Done, Grader
    from gridllm_leaderboard.grading.watching import Told
    from gridllm_leaderboard.link import LeaderboardLink
    from gridllm_leaderboard.messages import Beyond
    from gridllm_leaderboard.tasks import Task

AGAIN_S: Final = 10.0  # before a leaderboard that is not on line is looked for again


def grade(
    watch: Annotated[bool, typer.Option("--watch", help="Keep grading whatever comes, until Ctrl-C.")] = False,
    via: ViaOption = "auto",
    memory: MemoryOption = None,
    dtype: DtypeOption = None,
    task: Annotated[
        list[Path] | None, typer.Option(help="Folder of a task whose pool you keep; may be repeated.")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="Key file of the grader's account.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grade the models that others submitted, and sign what they scored.

    The leaderboard's rules name the graders. Each model runs in a process of its own with limited memory and time.
    Grading may be stopped at any moment and resumes at the same item. A model that does not fit into --memory runs on
    the grid's nodes, if its author allows it: volunteers serve it with gridllm serve --model NAME. What this grader
    cannot grade is left to others. --json prints a list of what was graded; with --watch, a line for each event.

    Example: gridllm leaderboard grade --watch
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.identity.keys import load
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.means import check_installed, means_of, ways_of
    from gridllm_leaderboard.grading.grader import Grader
    from gridllm_leaderboard.grading.kept import Ledge
    from gridllm_leaderboard.tasks import load as load_task

    check_installed()
    settings = load_settings(identity=identity)
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    means = means_of(settings, via, memory, dtype)
    mine = load(settings.identity_path)
    own = {one.name: one for one in map(load_task, task or [])}
    grader = Grader(mine, pins, settings.cache_dir, means, ways_of(pins, signed, settings.identity_path))
    ledge = Ledge(pins.data_dir, signed.grid, grader.account)
    with ledge.alone():
        ledge.sweep()
        run_async(_grade(signed, pins, grader, own, watch=watch, as_json=as_json))


async def _grade(
    signed: SignedCharter, pins: Pins, grader: Grader, own: Mapping[str, Task], *, watch: bool, as_json: bool
) -> None:
    """Raises GridError."""
    from dataclasses import replace

    from gridllm.cli.show import print_json, stderr
    from gridllm.cli.work import work
    from gridllm_leaderboard.cli.asking import LOOKING
    from gridllm_leaderboard.grading.watching import Told, grade_all
    from gridllm_leaderboard.link import asking_leaderboard

    told = Told(lambda done: None, lambda text: stderr().print(text, style="yellow", markup=False))
    graded: list[dict[str, Any]] = []
    with work() as shown:
        telling = replace(grader, on_stage=lambda name, stage, done, total: shown.tell(f"{stage} {name}", done, total))
        if watch:
            await _watch(signed, pins, telling, own, told, as_json=as_json)
            return
        shown.tell(LOOKING.format(signed.charter.name))
        try:
            async with asking_leaderboard(signed, pins) as link:
                shown.rest()
                _check_named(link, grader)
                said = _telling(told, link, grader, graded.append if as_json else None)
                count = await grade_all(link, telling, own, said)
        finally:
            if as_json:
                print_json(graded)
    if not count and not as_json:
        stderr().print("There is nothing to grade here now; --watch waits for it.")


async def _watch(
    signed: SignedCharter, pins: Pins, grader: Grader, own: Mapping[str, Task], told: Told, *, as_json: bool
) -> None:
    """Until Ctrl-C or SIGTERM; a leaderboard that went away is looked for again."""
    import asyncio

    from gridllm.cli.runtime import stop_on_signals
    from gridllm.cli.show import print_json, stderr
    from gridllm.errors import SwarmError
    from gridllm_leaderboard.grading.watching import watch
    from gridllm_leaderboard.link import asking_leaderboard

    async def forever() -> None:
        while True:
            try:
                async with asking_leaderboard(signed, pins) as link:
                    _check_named(link, grader)
                    if as_json:
                        print_json({"event": "watching", "account": grader.account})
                    else:
                        stderr().print("Watching for models to grade, until Ctrl-C.")
                    await watch(link, grader, own, _telling(told, link, grader, print_json if as_json else None))
            except SwarmError as error:
                told.trouble(str(error))
            await asyncio.sleep(AGAIN_S)

    with stop_on_signals() as stop:
        work, stopped = asyncio.create_task(forever()), asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for one in (work, stopped):
            one.cancel()
        await asyncio.wait({work, stopped})
        if not work.cancelled() and (fault := work.exception()) is not None:
            raise fault


def _telling(told: Told, link: LeaderboardLink, grader: Grader, take: Callable[[dict[str, Any]], None] | None) -> Told:
    """``take``: gets each model that is done, for programs; None: it is told to people."""
    from dataclasses import replace

    from gridllm.cli.grid_view import printable
    from gridllm.cli.show import stderr, stdout
    from gridllm_leaderboard.cli.grading_view import beyond_line, done_json, done_line

    lines: set[str] = set()  # each is told once

    def say(done: Done) -> None:
        if take is not None:
            take(done_json(done))
        else:
            stdout().print(printable(done_line(done, link.rules)), markup=False)

    def say_beyond(found: Sequence[Beyond]) -> None:
        for line in [beyond_line(one, grader.means) for one in found]:
            if line not in lines:
                lines.add(line)
                stderr().print(printable(line), style="yellow", markup=False)

    return replace(told, done=say, beyond=say_beyond)


def _check_named(link: LeaderboardLink, grader: Grader) -> None:
    """Raises LeaderboardError: the rules do not name this account."""
    from gridllm.errors import LeaderboardError

    if grader.account not in link.rules.graders:
        raise LeaderboardError(
            f"This account, {grader.account}, is no grader by the leaderboard's rules. Its maintainers name all "
            f"graders again, this one too: gridllm leaderboard init --grader … --grader {grader.account}"
        )
