"""Writes a job with its items into a scratch folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gridllm.disk import write_atomically
from gridllm_leaderboard.grading.job import Job, JobTask, Via
from gridllm_leaderboard.grading.limits import limits_for
from gridllm_leaderboard.grading.plan import Means
from gridllm_leaderboard.results import Line, items_root, line_of, write_items
from gridllm_leaderboard.tasks import Task

GRID_TIMES: Final = 4  # as long as here: a chain has other users


class Questions(NamedTuple):
    """One list of items."""

    label: str  # the task's name, with PRACTICE behind it for public items
    task: Task
    items: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is asked."""

    root: str  # or its folder, where nobody named it by a root
    parameters: int
    via: Via
    where: str  # its folder; by way of the grid, its root
    manifest: Path | None  # that the folder is checked against


@dataclass(frozen=True, slots=True)
class Ways:
    """How the grid is entered, where the model runs there."""

    home: Path
    grid: str
    identity: Path | None


def prepare(
    folder: Path, subject: Subject, questions: Sequence[Questions], means: Means, ways: Ways | None
) -> tuple[Job, float]:
    """The job, and the seconds that it may take. Raises OSError."""
    lists, size = [], 0
    for label, task, items in questions:
        file, path = folder / f"{task.name}.yaml", folder / f"{label}.items.jsonl"
        write_atomically(file, task.files()["task.yaml"])
        write_atomically(path, write_items(items))
        size += sum(len(line_of(item)) * len(item.get("choices", [0])) for item in items)
        lists.append(JobTask(name=task.name, label=label, file=str(file), items=str(path)))
    on_grid = subject.via == "grid"  # embedding and head run here, blocks elsewhere
    bounds = limits_for(subject.parameters, size * GRID_TIMES if on_grid else size, means.threads)
    asked = " ".join(items_root(one.items) for one in questions)
    dtype = means.grid_dtype if on_grid else means.dtype
    job = Job(
        folder=str(folder),
        about=f"{subject.root} {dtype or 'listed'} {subject.via} {asked}",
        via=subject.via,
        model=subject.where,
        manifest=None if subject.manifest is None else str(subject.manifest),
        dtype=dtype,
        device=means.device,
        threads=means.threads,
        tasks=tuple(lists),
        memory_bytes=means.memory_bytes,
        cpu_s=bounds.cpu_s,
        home=None if ways is None else str(ways.home),
        grid=None if ways is None else ways.grid,
        identity=None if ways is None or ways.identity is None else str(ways.identity),
    )
    return job, bounds.wall_s
