"""What the process that runs a model is told, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gridllm.charter.contest import TaskName
from gridllm.errors import LeaderboardError
from gridllm.identity.fields import Strict

Dtype = Literal["float32", "bfloat16", "float16"]
Via = Literal["local", "grid"]


class JobTask(Strict):
    """One list of items to be scored."""

    name: TaskName
    label: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}(\.practice)?$")]  # names the list within the job
    file: str  # path of its task.yaml
    items: str  # path of its items, one JSON line each


class Job(Strict):
    """One model, asked these items."""

    folder: str  # scratch folder: journal and results lie there
    about: str  # all that the results depend on (journal.py)
    via: Via
    model: str  # folder of the model's files; by way of the grid: its root or name there
    manifest: str | None  # path of the manifest that the folder is checked against; None: trusted folder
    dtype: Dtype | None  # None, by way of the grid: what it lists the model in
    device: str
    threads: int | None
    tasks: Annotated[tuple[JobTask, ...], Field(min_length=1, max_length=64)]
    memory_bytes: Annotated[int, Field(ge=1)]  # beyond what the program itself takes
    cpu_s: Annotated[int, Field(ge=1)]
    home: str | None = None  # data folder, by way of the grid
    grid: str | None = None  # its name, by way of the grid
    identity: str | None = None  # key file of the account that pays, by way of the grid

    @property
    def journal_path(self) -> Path:
        """The journal."""
        return Path(self.folder) / "journal.jsonl"

    def results_path(self, label: str) -> Path:
        """The results of one list, once it is done."""
        return Path(self.folder) / f"{label}.results.jsonl"


def read_job(path: Path) -> Job:
    """Raises LeaderboardError: the file is not there, or no job."""
    try:
        return Job.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LeaderboardError(f"{path} is no job for a grader: {error}") from error
