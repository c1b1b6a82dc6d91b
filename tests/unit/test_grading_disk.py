"""What a grader's disk holds of models that it graded, could not grade, or need not grade any more: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridllm.ids import ModelRoot
from gridllm.models.cached import model_folder
from gridllm_leaderboard.grading import grader as graders
from gridllm_leaderboard.grading.child import Fault
from gridllm_leaderboard.grading.grader import Grader, PutOffError
from gridllm_leaderboard.grading.running import CannotRunError
from gridllm_leaderboard.grading.watching import Told, grade_all
from gridllm_leaderboard.link import LeaderboardLink
from tests.unit import upload_hall
from tests.unit.leaderboard_house import House, house
from tests.unit.test_grading_unable import grader_in

QUIET = Told(lambda _: None, lambda _: None)


class Runs:
    """In place of the child."""

    def __init__(self) -> None:
        self.fault: Fault = "machine"

    async def __call__(self, *_: Any) -> Any:
        raise CannotRunError(self.fault, "it did not come to its end")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setitem(upload_hall.CONFIG, "num_attention_heads", 2)  # whoever fetches a model reads its config
    monkeypatch.setattr(graders, "run_job", made)
    return made


async def put_off(made: House, tmp_path: Path) -> tuple[Grader, LeaderboardLink, Path]:
    """A grader that fetched a model and was not able to go on; where its weights are."""
    root = (await made.view(await made.submit(1))).root
    await made.until_told("drawn")
    grader, link = await grader_in(made, tmp_path)
    with pytest.raises(PutOffError):
        await grade_all(link, grader, {}, QUIET)
    return grader, link, model_folder(grader.cache_dir, ModelRoot(root))


async def test_a_model_that_cannot_be_run_leaves_the_disk_though_it_was_begun_anew(tmp_path: Path, runs: Runs) -> None:
    async with house(tmp_path) as made:
        grader, link, weights = await put_off(made, tmp_path)
        assert list(weights.glob("*.safetensors")), "the next try need not fetch them again"
        runs.fault = "model"
        assert await grade_all(link, grader, {}, QUIET) == 1
        assert not weights.exists()


async def test_a_model_of_a_round_that_is_over_leaves_the_disk(tmp_path: Path, runs: Runs) -> None:
    async with house(tmp_path) as made:
        grader, link, weights = await put_off(made, tmp_path)
        await made.grade_all(lambda _: 0.5)
        await made.until_told("judged")
        assert await grade_all(link, grader, {}, QUIET) == 0
        assert not weights.exists()


async def test_what_was_here_before_stays(tmp_path: Path, runs: Runs) -> None:
    async with house(tmp_path) as made:
        root = (await made.view(await made.submit(1))).root
        await made.until_told("drawn")
        grader, link = await grader_in(made, tmp_path)
        weights = model_folder(grader.cache_dir, ModelRoot(root))
        weights.mkdir(parents=True)  # of a node of this machine, perhaps
        runs.fault = "model"
        assert await grade_all(link, grader, {}, QUIET) == 1
        assert list(weights.glob("*.safetensors"))
