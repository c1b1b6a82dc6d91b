"""The process that runs a stranger's model: ``python -m gridllm_leaderboard.grading.child JOB``.

It reads its job, scores what the journal lacks, writes a file of results for each list, and says on its standard
output, in JSON lines, how far it is (``Said``). Its memory and time are bounded, and it asks nobody for anything, save
the grid where the model runs there. Killed at any moment it loses a few items; it ends when who started it is gone.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gridllm.errors import (
    GridError,
    Insufficient,
    LeaderboardError,
    ModelError,
    NotEntitled,
    Unpaid,
    UsageError,
)
from gridllm_leaderboard.grading.job import Dtype, Job, Via, read_job
from gridllm_leaderboard.tasks.taskfile import read_task_file

if TYPE_CHECKING:
    from gridllm.models.scoring import Scorer
    from gridllm_leaderboard.grading.harness import Asked

Fault = Literal["model", "memory", "grid", "credit", "machine", "killed", "time"]
"""model: it cannot be run at all; memory: not within its bounds; grid: nodes are lacking, or fail now; credit: they do
not serve this account; machine: ours is at fault; killed: its process died; time: it was not done in time. The first
alone says something about the model."""

ORPHANED: Final = 3  # exit status
MOST_SAID: Final = 400  # characters of a sentence
OUR_ERRNOS: Final = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
OUT_OF_MEMORY: Final = (
    "can't allocate memory",
    "out of memory",
    "bad allocation",
    "bad_alloc",
    "Cannot allocate memory",
)


class Said(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the child's output."""

    done: int = 0  # items
    total: int = 0
    harness: str = ""  # once all is done: its name and version
    dtype: Dtype | None = None  # then, too: what the model ran in
    fault: Fault | None = None
    why: str = ""


def main() -> None:
    """Exit status 0: all results are written; 1: the last line says why not."""
    say = _Mouth()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    via: Via = "local"
    try:
        job = read_job(Path(sys.argv[1]))
        via = job.via
        _grade(job, say)
    except Exception as error:  # noqa: BLE001  # whatever libraries make of a stranger's model
        say(fault_of(error, via))
        sys.exit(1)


def _end_with_parent() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the parent does, however that ends."""
    while os.read(0, 4096):
        pass
    os._exit(ORPHANED)


class _Mouth:
    """Standard output, which libraries must not write to."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)

    def __call__(self, said: Said) -> None:
        self._out.write(msgspec.json.encode(said) + b"\n")


def _grade(job: Job, say: _Mouth) -> None:
    import logging

    import torch

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    from gridllm_leaderboard.grading.harness import VERSION, run_harness
    from gridllm_leaderboard.grading.journal import Journal
    from gridllm_leaderboard.grading.limits import confine
    from gridllm_leaderboard.results import write_results

    asked = [_asked(job, at) for at in range(len(job.tasks))]
    _warm_up()
    confine(job.memory_bytes, job.cpu_s)
    with Journal(job.journal_path, f"{job.about} {VERSION}") as journal, _scorer(job) as (scorer, dtype):
        found = run_harness(scorer, asked, journal, lambda done, total: say(Said(done, total)))
    for label, results in found.items():
        _write(job.results_path(label), write_results(results))
    say(Said(harness=VERSION, dtype=dtype))


def _asked(job: Job, at: int) -> Asked:
    from gridllm_leaderboard.grading.harness import Asked
    from gridllm_leaderboard.results import read_items

    task = job.tasks[at]
    return Asked(task.label, read_task_file(Path(task.file).read_bytes()), read_items(Path(task.items).read_bytes()))


def _warm_up() -> None:
    """Have the libraries take what they take once, before what is taken counts."""
    import torch

    _ = torch.randn(64, 64) @ torch.randn(64, 64)


@contextmanager
def _scorer(job: Job) -> Iterator[tuple[Scorer, Dtype]]:
    """The model, and what it runs in. Raises ModelError, SwarmError and what the grid's client raises."""
    if job.via == "grid":
        from gridllm_client.grid import Grid
        from gridllm_client.scoring import ChainScorer

        with Grid(job.home, name=job.grid, account=job.identity) as grid:
            model = grid.model(job.model, dtype=job.dtype)
            yield ChainScorer(model), model.dtype  # type: ignore[misc]  # of the three that the charter knows
        return
    from gridllm.models.local_scorer import LocalScorer
    from gridllm.models.manifest import parse_manifest
    from gridllm.wire.tensor import dtype_named

    manifest = None if job.manifest is None else parse_manifest(Path(job.manifest).read_bytes())
    dtype = job.dtype or "float32"
    yield LocalScorer.load(Path(job.model), manifest, dtype_named(dtype), device=job.device), dtype


def _write(path: Path, data: bytes) -> None:
    from gridllm.disk import write_atomically

    write_atomically(path, data)


def fault_of(error: Exception, via: Via) -> Said:
    """What is to be said. By way of the grid, files that nobody sends and nodes that compute nonsense say nothing about
    the model, which the leaderboard looked at before.
    """
    text = "".join(letter for letter in " ".join(str(error).split()) if letter.isprintable())[:MOST_SAID].rstrip(".")
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return Said(fault="memory", why="it ran out of the memory that it may take")
    if isinstance(error, ModelError | UsageError):
        return Said(fault="grid" if via == "grid" else "model", why=text)
    if isinstance(error, LeaderboardError) or (isinstance(error, OSError) and error.errno in OUR_ERRNOS):
        return Said(fault="machine", why=text)
    if isinstance(error, GridError):
        return Said(fault="credit" if isinstance(error, NotEntitled | Unpaid | Insufficient) else "grid", why=text)
    return Said(fault="model", why=f"it cannot be computed ({type(error).__name__}: {text})")


if __name__ == "__main__":
    main()
