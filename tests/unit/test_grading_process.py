"""The process that runs a model, on the demo model: equal to plain transformers, killed, out of memory, a broken model.

lm_eval is imported by that process alone; each start takes seconds, so that these few tests ask for much at once.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from gridllm.models.files import DEMO, find_model
from gridllm_leaderboard.grading.job import Job
from gridllm_leaderboard.grading.journal import Journal
from gridllm_leaderboard.grading.plan import Means
from gridllm_leaderboard.grading.preparing import Questions, Subject, prepare
from gridllm_leaderboard.grading.running import CannotRunError, run_job
from gridllm_leaderboard.ranking.points import lost_text, value_of
from gridllm_leaderboard.results import Line, digest_of
from gridllm_leaderboard.tasks import Task, load
from gridllm_leaderboard.tasks.from_text import make_task
from tests.plain_grader import PlainGrader

SEED = bytes(32)
MODEL = find_model(DEMO)
MEANS = Means("local", 2**31, "float32", "cpu", 1)
WALL_S = 100.0

pytestmark = pytest.mark.timeout(240)


def job_of(folder: Path, tasks: Sequence[tuple[Task, list[Line]]], model: Path = MODEL) -> Job:
    questions = [Questions(task.name, task, items) for task, items in tasks]
    subject = Subject(str(model), 10**7, "local", str(model), None)
    return prepare(folder, subject, questions, MEANS, None)[0]


def killing_once(after: int) -> Callable[[int, int], None]:
    """A listener that ends the process with SIGKILL once so many items are done."""
    killed = False

    def listen(done: int, total: int) -> None:
        nonlocal killed
        if not killed and done >= after:
            killed = True
            for child in psutil.Process().children():
                if "gridllm_leaderboard.grading.child" in child.cmdline():
                    child.kill()

    return listen


async def test_the_same_as_plain_transformers_though_it_is_killed_on_the_way(tmp_path: Path) -> None:
    pages = [path.read_text() for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]
    make_task(pages, tmp_path / "pages", name="pages", practice=5, size=500, seed=1)
    real, sums, stories = load(tmp_path / "pages"), load("sums"), load("stories")
    long = {"text": " ".join(item["text"] for item in stories.draw(SEED, 9))}  # more than the model reads at once
    tasks = [(real, real.draw(SEED, 3)), (sums, sums.draw(SEED, 12)), (stories, [*stories.draw(SEED, 3), long])]
    folder = tmp_path / "job"
    folder.mkdir()
    job = job_of(folder, tasks)
    ran = await run_job(job, WALL_S, killing_once(3))

    directly = PlainGrader(MODEL)
    assert 1024 < len(directly.tokens(long["text"])) < 2047
    for task, items in tasks:
        results = ran.results[task.name]
        assert [one.item for one in results] == [digest_of(item) for item in items]
        for item, result in zip(items, results, strict=True):
            if task.kind == "choice":
                direct = directly.choices(item)
                assert result.logliks == pytest.approx(direct, abs=1e-3)
                assert result.points == float(max(range(4), key=direct.__getitem__) == item["gold"])
            else:
                bits_per_byte = -directly.text(item["text"]) / math.log(2) / len(item["text"].encode())
                assert value_of("text", [result]) == pytest.approx(bits_per_byte, abs=1e-4)
    assert ran.harness.startswith("lm_eval 0.4")


async def test_what_was_scored_is_not_scored_again(tmp_path: Path) -> None:
    """And a text that the tokenizer does not give back counts as not compressed."""
    sums, stories = load("sums"), load("stories")
    items = sums.draw(SEED, 3)
    model = tmp_path / "deaf"
    shutil.copytree(MODEL, model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[b-z]"}, "content": "a"}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    folder = tmp_path / "job"
    folder.mkdir()
    story = stories.draw(SEED, 1)
    job = job_of(folder, [(sums, items), (stories, story)], model)
    with Journal(job.journal_path, f"{job.about} lm_eval {_version()}") as journal:
        journal.add("sums", digest_of(items[1]), [-4.25, -3.25, -2.25, -1.25])
    told: list[tuple[int, int]] = []
    ran = await run_job(job, WALL_S, lambda done, total: told.append((done, total)))
    assert ran.results["sums"][1].logliks == [-4.25, -3.25, -2.25, -1.25]
    assert ran.results["stories"][0].logliks == [lost_text(story[0]["text"])]
    assert value_of("text", ran.results["stories"]) == pytest.approx(8.0)
    assert told[-1] == (4, 4)


async def test_bounds_hold_and_a_broken_model_is_named(tmp_path: Path) -> None:
    sums = load("sums")
    tight = job_of(tmp_path, [(sums, sums.draw(SEED, 2))]).model_copy(update={"memory_bytes": 2**20})
    with pytest.raises(CannotRunError, match="ran out of the memory") as found:
        await run_job(tight, WALL_S, lambda *_: None)
    assert found.value.fault == "memory"
    with pytest.raises(CannotRunError, match="not done after the 0 s") as found:
        await run_job(tight, 0.2, lambda *_: None, attempts=1)
    assert found.value.fault == "time"


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")
