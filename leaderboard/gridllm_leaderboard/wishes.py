"""Rules of the leaderboard from what a maintainer typed: what is not said stays as it was, or is as usual."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from gridllm.charter.contest import Rules, TaskRule
from gridllm.disk import write_atomically
from gridllm.errors import LeaderboardError, UsageError

if TYPE_CHECKING:
    from gridllm_leaderboard.tasks import Task

USUAL_TASKS: Final = ("stories", "sums", "facts")
USUAL_ITEMS: Final = 200  # drawn in a round: a share of 50% is then known within 7%


@dataclass(frozen=True, slots=True)
class TaskWish:
    """A task as it was typed."""

    source: str  # a built-in task's name, or a folder
    items: int
    weight: int


def parse_task(text: str) -> TaskWish:
    """``NAME`` or ``FOLDER``, then perhaps ``:items``, then perhaps ``:weight``.

    Raises:
        UsageError: not that.
    """
    match = re.fullmatch(r"(.+?)(?::(\d{1,6})(?::(\d{1,6}))?)?", text)
    if match is None:
        raise UsageError(f"{text!r} is no task; write NAME or FOLDER, or NAME:items:weight.")
    return TaskWish(match[1], int(match[2] or USUAL_ITEMS), int(match[3] or 1))


def loaded(wishes: Sequence[TaskWish]) -> list[tuple[TaskWish, Task]]:
    """The tasks. Generates their public items: not for an event loop. Raises LeaderboardError."""
    from gridllm_leaderboard.tasks import load

    return [(wish, load(wish.source)) for wish in wishes]


def lines_of(tasks: Sequence[tuple[TaskWish, Task]]) -> list[TaskRule]:
    """The rules' lines for them. Raises UsageError: so many items, or such a weight, cannot be."""
    lines = []
    for wish, task in tasks:
        try:
            lines.append(task.rule(wish.items, wish.weight))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise UsageError(f"The task {wish.source}: {fault['loc'][0]} {fault['input']} cannot be.") from error
    return lines


def rules_of(
    grid: str, account: str, before: Rules | None, changes: Mapping[str, Any], tasks: Sequence[TaskRule], issued: int
) -> Rules:
    """The next rules.

    Args:
        before: those that hold now.
        changes: fields that were typed.
        tasks: none: as before.

    Raises:
        UsageError: a value cannot stand in rules.
    """
    held = {} if before is None else before.model_dump()
    fields = {
        **held,
        **changes,
        "grid": grid,
        "account": account,
        "serial": 1 if before is None else before.serial + 1,
        "issued": issued,
    }
    if tasks:
        fields["tasks"] = [task.model_dump() for task in tasks]
    try:
        return Rules.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = " ".join(map(str, fault["loc"]))
        what = fault["msg"].removeprefix("Value error, ")
        raise UsageError(f"These rules cannot be: {f'{where}: ' if where else ''}{what}.") from error


def remember_sources(path: Path, tasks: Sequence[tuple[TaskWish, Task]]) -> None:
    """Write down where tasks come from; those of older rules, which a round may still be under, stay.

    Raises:
        LeaderboardError: the file cannot be written.
    """
    known = _read(path)
    for wish, task in tasks:
        folder = Path(wish.source)
        known[task.name] = str(folder.resolve()) if folder.is_dir() and wish.source != task.name else wish.source
    try:
        write_atomically(path, json.dumps(known, indent=1).encode())
    except OSError as error:
        raise LeaderboardError(f"{path} cannot be written ({error.strerror}).") from error


def tasks_at(path: Path, rules: Rules) -> dict[str, Task]:
    """The tasks of the rules, by name.

    Raises:
        LeaderboardError: one is not there, or not the one that the rules commit to.
    """
    from gridllm_leaderboard.tasks import load

    known, found = _read(path), {}
    for rule in rules.tasks:
        source = known.get(rule.name, rule.name)
        task = load(source)
        if task.name != rule.name or task.commitment != rule.commitment:
            raise LeaderboardError(
                f"The task {rule.name!r} in {source} is not the one that the rules commit to: put its files back, or "
                f"issue rules with it as it is: gridllm leaderboard init --task {source}"
            )
        found[rule.name] = task
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        said = json.loads(path.read_bytes())
        return {str(name): str(source) for name, source in said.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise LeaderboardError(
            f"{path} is damaged ({error}); run gridllm leaderboard init with every --task."
        ) from error
