"""What models are asked: built-in tasks that are generated, and tasks from folders with sealed items.

load("sums").draw(seed, 100)       # always the same hundred of one seed
load("my-task/").practice()        # what everybody may see
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.tasks.folder import FolderTask, from_files, from_folder
from gridllm_leaderboard.tasks.generated import GeneratedTask
from gridllm_leaderboard.tasks.task import Task, seed_for
from gridllm_leaderboard.tasks.taskfile import read_task_file

__all__ = ["BUILT_IN", "FolderTask", "GeneratedTask", "Task", "from_files", "load", "seed_for"]

BUILT_IN: Final = ("stories", "sums", "facts")


def load(source: str | Path) -> Task:
    """A built-in task by its name, or a task by its folder.

    Raises:
        LeaderboardError: there is none of that name or in that folder, or it cannot be used.
    """
    if str(source) in BUILT_IN:
        from gridllm_leaderboard.tasks.makers import MAKERS

        raw = resources.files(__name__).joinpath("builtin", f"{source}.yaml").read_bytes()
        return GeneratedTask(read_task_file(raw), raw, MAKERS[str(source)])
    if not Path(source).is_dir():
        raise LeaderboardError(
            f"There is no task {source}. Name a built-in one ({', '.join(BUILT_IN)}) or a folder with task.yaml and "
            "practice.jsonl."
        )
    return from_folder(Path(source))
