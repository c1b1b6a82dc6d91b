"""Starts the process with the model, watches it, and tries again where that may help."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gridllm.disk import write_atomically
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.grading.child import Fault, Said
from gridllm_leaderboard.grading.job import Dtype, Job
from gridllm_leaderboard.results import ItemResult, read_results

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # at a model whose process dies; each goes on where the one before stopped
FINAL: Final = ("model", "memory", "grid", "credit", "machine")  # faults that another attempt would meet again
MAX_LINE_BYTES: Final = 64 * 1024
END_S: Final = 5.0  # for a process to end after it was killed

OnProgress = Callable[[int, int], None]
"""Called on the event loop with (items done, items in all)."""


class CannotRunError(LeaderboardError):
    """The model could not be run; ``fault`` says whose fault that is."""

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(why)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a job."""

    harness: str  # its name and version
    dtype: Dtype  # that it ran in
    results: Mapping[str, list[ItemResult]]  # by list


async def run_job(job: Job, wall_s: float, progress: OnProgress, *, attempts: int = ATTEMPTS) -> Ran:
    """Run a job to its end, in as many processes as it takes, up to ``attempts``.

    Raises:
        CannotRunError: it cannot be run, or not within its bounds.
        LeaderboardError: what it wrote cannot be used.
        OSError: the scratch folder cannot be written.
    """
    path = Path(job.folder) / "job.json"
    await asyncio.to_thread(write_atomically, path, job.model_dump_json().encode(), mode=0o600)
    for attempt in range(1, attempts + 1):
        try:
            harness, dtype = await _attempt(path, job, wall_s, progress)
            return Ran(harness, dtype, await asyncio.to_thread(_results, job))
        except CannotRunError as error:
            if attempt == attempts or error.fault in FINAL:
                raise
            log.warning("Attempt %d of %d: %s; it goes on at the next item.", attempt, attempts, error)
    raise CannotRunError("machine", "it was not tried")  # attempts is 1 at least


async def _attempt(path: Path, job: Job, wall_s: float, progress: OnProgress) -> tuple[str, Dtype]:
    """One process; the harness's name, and what the model ran in. Raises CannotRunError."""
    with (Path(job.folder) / "stderr.txt").open("wb") as errors:  # for people; nothing of it is read
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gridllm_leaderboard.grading.child",
            str(path),
            stdin=asyncio.subprocess.PIPE,  # never written to: its end is ours
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment(job),
            limit=MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
    last = Said()
    try:
        async with asyncio.timeout(wall_s):
            async for said in _lines(process):
                last = said
                if said.total:
                    progress(said.done, said.total)
            status = await process.wait()
    except TimeoutError:
        raise CannotRunError("time", f"it was not done after the {wall_s:.0f} s that it may take") from None
    finally:
        await _end(process)
    if status == 0 and last.harness and last.dtype is not None:
        return last.harness, last.dtype
    if last.fault is not None:
        raise CannotRunError(last.fault, last.why)
    raise CannotRunError(*_death(status))


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[Said]:
    stream = process.stdout
    if stream is None:
        return
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            raise CannotRunError("killed", "its process wrote what is no report") from None
        if not line:
            return
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield _decoder.decode(line)


_decoder = msgspec.json.Decoder(Said)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it stays behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()


def _death(status: int) -> tuple[Fault, str]:
    """Why a process ended that did not say so."""
    if status == -signal.SIGXCPU:
        return "time", "it used more processor time than it may"
    if status in (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS):
        return "killed", f"its process was ended by {signal.Signals(-status).name}, mostly for lack of memory"
    return "killed", f"its process ended with status {status}"


def _results(job: Job) -> dict[str, list[ItemResult]]:
    try:
        return {one.label: read_results(job.results_path(one.label).read_bytes()) for one in job.tasks}
    except OSError as error:
        raise LeaderboardError(f"The results of a grading cannot be read: {error}.") from error


def environment(job: Job) -> dict[str, str]:
    """What the process finds around it: no caches outside its folder, nothing from the network but the grid."""
    scratch = Path(job.folder) / "caches"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return kept | {
        "HF_HOME": str(scratch),
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
        "LMEVAL_LOG_LEVEL": "ERROR",
    }
