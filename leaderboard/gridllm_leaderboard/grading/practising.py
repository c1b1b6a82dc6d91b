"""The public items at home: what a model would score, before anybody submits it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gridllm.disk import make_private_dir
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.grading.plan import Means
from gridllm_leaderboard.grading.preparing import Questions, Subject, Ways, prepare
from gridllm_leaderboard.grading.running import CannotRunError, run_job
from gridllm_leaderboard.ranking.points import grade_of
from gridllm_leaderboard.results import ItemResult, items_root
from gridllm_leaderboard.statements import TaskGrade
from gridllm_leaderboard.tasks import Task


async def practise(
    subject: Subject,
    tasks: Sequence[Task],
    means: Means,
    ways: Ways | None,
    cache_dir: Path,
    progress: Callable[[int, int], None],
    *,
    items: int | None = None,
) -> list[tuple[TaskGrade, list[ItemResult]]]:
    """What a model scores on the public items of each task, in all and item by item.

    Args:
        items: the first so many of each; None: all.

    Raises:
        LeaderboardError: it cannot be run; says why.
        OSError: the scratch folder cannot be written.
    """
    questions = [Questions(task.name, task, task.practice()[:items]) for task in tasks]
    await asyncio.to_thread(make_private_dir, cache_dir)
    with tempfile.TemporaryDirectory(prefix="practice-", dir=cache_dir) as scratch:
        job, wall_s = await asyncio.to_thread(prepare, Path(scratch), subject, questions, means, ways)
        try:
            ran = await run_job(job, wall_s, progress)
        except CannotRunError as error:
            raise LeaderboardError(f"The model could not be graded: {error}.") from error
    return [
        (grade_of(one.task.name, one.task.kind, items_root(one.items), ran.results[one.label]), ran.results[one.label])
        for one in questions
    ]
