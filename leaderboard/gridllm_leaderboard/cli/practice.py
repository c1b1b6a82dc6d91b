"""``gridllm leaderboard practice``: the public items, at home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption
from gridllm_leaderboard.cli.means import DtypeOption, MemoryOption, ViaOption

if TYPE_CHECKING:
    from gridllm_leaderboard.cli.practice_tasks import Home
    from gridllm_leaderboard.grading.plan import Means
    from gridllm_leaderboard.grading.preparing import Subject, Ways


def practice(
    model: Annotated[str, typer.Argument(help="Model folder, demo, or the name of one of the grid's models.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="A built-in task, a task's folder, or one of the leaderboard's; may be repeated."),
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Only the first so many items of each task.")] = None,
    via: ViaOption = "auto",
    memory: MemoryOption = None,
    dtype: DtypeOption = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grade a model on the public practice items, as graders would on sealed ones.

    The items are of the same kind as the sealed ones but part of no round: a score here shows what to expect, no more.
    Without --task it uses the tasks of the grid's leaderboard, or the built-in ones.

    Example: gridllm leaderboard practice ~/models/my-model
    """
    from gridllm.cli.grid_view import printable
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.cli.work import work
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.grading_view import grades_table, practised_json, score_of
    from gridllm_leaderboard.cli.means import check_installed, means_of
    from gridllm_leaderboard.cli.practice_tasks import Home, practice_tasks
    from gridllm_leaderboard.grading.practising import practise

    check_installed()
    settings = load_settings()
    means = means_of(settings, via, memory, dtype)
    home = Home.find(settings.data_dir, grid)
    tasks, weights = run_async(practice_tasks(home, task))
    subject, ways = _subject(model, means, home, settings.identity_path)
    with work() as shown:
        found = run_async(
            practise(
                subject,
                tasks,
                means,
                ways,
                settings.cache_dir,
                lambda done, total: shown.tell(f"Grading {model}", done, total),
                items=items,
            )
        )
    grades = [grade for grade, _ in found]
    score = score_of(grades, weights)
    if as_json:
        print_json({"model": model, "score": score, "tasks": [practised_json(*one) for one in found]})
        return
    console = stdout()
    console.print(grades_table(grades, {one.name: one.kind for one in tasks}))
    console.print(f"{printable(model)} scores {score:.2f} of 100 on practice items.", markup=False)


def _subject(model: str, means: Means, home: Home | None, identity: Path) -> tuple[Subject, Ways | None]:
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
