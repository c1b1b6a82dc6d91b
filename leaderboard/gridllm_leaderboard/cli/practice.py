"""``gridllm leaderboard practice``: the public items, at home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption
from gridllm_leaderboard.cli.means import DtypeOption, MemoryOption, ViaOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gridllm.charter.contest import Rules
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm_leaderboard.grading.plan import Means
    from gridllm_leaderboard.grading.preparing import Subject, Ways
    from gridllm_leaderboard.tasks import Task


def practice(
    model: Annotated[str, typer.Argument(help="Folder of a model, demo, or the name of a model of the grid.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="A built-in task, a task's folder, or one of the leaderboard's; may be repeated."),
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Only the first so many of each task.")] = None,
    via: ViaOption = "auto",
    memory: MemoryOption = None,
    dtype: DtypeOption = "float32",
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grade a model on the public practice items, as graders would on sealed ones.

    The items are of the same kind and no part of any round, so that a score here says what to expect, and nothing else.
    Without --task: those of the grid's leaderboard, or the built-in ones.

    Example: gridllm leaderboard practice ~/models/my-model
    """
    from gridllm.cli.grid_view import printable
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.grading_view import grades_table, progress_bar, score_of
    from gridllm_leaderboard.cli.means import check_installed, means_of
    from gridllm_leaderboard.grading.practising import practise

    check_installed()
    settings = load_settings()
    means = means_of(settings, via, memory, dtype)
    home = _Home.find(settings.data_dir, grid)
    tasks = _tasks(home, task)
    subject, ways = _subject(model, means, home, settings.identity_path)
    with progress_bar() as report:
        grades = run_async(
            practise(
                subject,
                tasks,
                means,
                ways,
                settings.cache_dir,
                lambda done, total: report(f"grading {model}", done, total),
                items=items,
            )
        )
    weights = {} if home is None or home.rules is None else {one.name: one.weight for one in home.rules.tasks}
    score = score_of(grades, weights)
    if as_json:
        print_json({"model": model, "score": score, "tasks": [one.model_dump(mode="json") for one in grades]})
        return
    console = stdout()
    console.print(grades_table(grades, {one.name: one.kind for one in tasks}))
    console.print(f"{printable(model)} scores {score:.2f} of 100 on practice items.", markup=False)


class _Home(NamedTuple):
    """The grid that this machine joined."""

    pins: Pins
    signed: SignedCharter
    rules: Rules | None  # as far as they are known here

    @staticmethod
    def find(data_dir: Path, name: str | None) -> _Home | None:
        """None: no grid was joined, and none was asked for. Raises CharterError."""
        from gridllm.charter.board import NoticeBoard
        from gridllm.charter.pin import Pins
        from gridllm.errors import CharterError

        pins = Pins(data_dir)
        try:
            signed = pins.current(name)
        except CharterError:
            if name is not None:
                raise
            return None
        return _Home(pins, signed, NoticeBoard(signed, pins.notices_path(signed)).rules)


def _tasks(home: _Home | None, named: Sequence[str] | None) -> list[Task]:
    """Raises LeaderboardError, SwarmError: one of them cannot be had."""
    from gridllm_leaderboard.tasks import BUILT_IN, load

    rules = None if home is None else home.rules
    names = named or (BUILT_IN if rules is None else [task.name for task in rules.tasks])
    ruled: Mapping[str, str] = {} if rules is None else {task.name: task.commitment for task in rules.tasks}
    found: dict[str, Task] = {}
    for name in names:
        if name in ruled and not Path(name).is_dir():
            if name in BUILT_IN and load(name).commitment == ruled[name]:
                found[name] = load(name)
            continue
        task = load(name)
        found[task.name] = task
    lacking = [name for name in names if name in ruled and name not in found and not Path(name).is_dir()]
    if lacking and home is not None:
        found |= _fetched(home, lacking, ruled)
    return list(found.values())


def _fetched(home: _Home, names: Sequence[str], ruled: Mapping[str, str]) -> dict[str, Task]:
    """The public files of the leaderboard's own tasks."""
    from gridllm.cli.runtime import run_async
    from gridllm.errors import LeaderboardError
    from gridllm_leaderboard.cli.asking import the_leaderboard
    from gridllm_leaderboard.tasks import from_files

    async def ask() -> dict[str, Task]:
        found: dict[str, Task] = {}
        async with the_leaderboard(home.signed.charter.name) as link:
            for name in names:
                task = from_files(await link.file(name, "task.yaml"), await link.file(name, "practice.jsonl"))
                if task.name != name or task.commitment != ruled[name]:
                    raise LeaderboardError(f"The leaderboard sent another task than the {name} of its rules.")
                found[name] = task
        return found

    return run_async(ask())


def _subject(model: str, means: Means, home: _Home | None, identity: Path) -> tuple[Subject, Ways | None]:
    """Raises ModelError: no such folder or model; CharterError: the grid serves none of that name."""
    import math

    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.catalogue import Catalogue
    from gridllm.errors import ModelError, UsageError
    from gridllm.models.files import DEMO, find_model
    from gridllm.models.weights import Checkpoint
    from gridllm_leaderboard.cli.means import ways_of
    from gridllm_leaderboard.grading.plan import TooLargeError, way_for
    from gridllm_leaderboard.grading.preparing import Subject

    if means.way != "grid" and (model == DEMO or Path(model).is_dir()):
        folder = find_model(DEMO if model == DEMO else Path(model))
        parameters = sum(math.prod(slot.shape) for slot in Checkpoint.open(folder).slots.values())
        try:
            return Subject(str(folder), parameters, way_for(means, parameters, False), str(folder), None), None
        except TooLargeError as error:
            raise UsageError(f"{model}: {error}.") from error
    if home is None or means.way == "local":
        raise ModelError(f"{model} is no folder of a model here. A model of a grid runs with --via grid, once joined.")
    board = NoticeBoard(home.signed, home.pins.notices_path(home.signed))
    entry = Catalogue(home.signed, board).model(model)
    return Subject(entry.root, entry.parameters, "grid", entry.root, None), ways_of(home.pins, home.signed, identity)
