"""A model too large for its grader waits with a reason, is served by volunteers, and graded through their chain."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from gridllm.charter.pin import Pins
from gridllm_leaderboard.link import asking_leaderboard
from gridllm_leaderboard.messages import DOSSIER_CALL, AskDossier, Dossier
from gridllm_leaderboard.results import ItemResult, Line, read_items, read_results
from gridllm_leaderboard.statements import Draw, Grade, verify_document
from tests.command import gridllm
from tests.plain_grader import PlainGrader
from tests.swarm.leaderboard_grid import Contest, leaderboard_grid
from tests.trained import shared_folder, stages

pytestmark = [pytest.mark.timeout(1500), pytest.mark.soak]

RULES = ("--task", "sums:20", "--task", "stories:8", "--fee", "0.5")
SMALL_MACHINE = ("--memory", "1GB")  # less than what any model takes beside its weights: it holds none
SPANS = ("0:2", "2:4")


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    folder = tmp_path_factory.mktemp("grid")
    with leaderboard_grid(folder, rules=RULES, running=("--list-above", "1kB")) as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, so that nodes compute in what plain transformers does."""
    folder = tmp_path_factory.mktemp("large") / "model"
    shutil.copytree(stages(shared_folder(tmp_path_factory))[1], folder)
    weights = load_file(folder / "model.safetensors")
    full = {name: one.float() for name, one in weights.items()}
    save_file(full, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def asked_and_answered(contest: Contest, id_: str) -> list[tuple[Line, ItemResult]]:
    """Each item of its round, and what the grade says of it."""
    pins = Pins(contest.grader / "data" / "gridllm")
    async with asking_leaderboard(pins.current(), pins) as link:
        dossier = await link.ask(DOSSIER_CALL, AskDossier(id_), Dossier)
        assert dossier.draw is not None
        draw = verify_document(dossier.draw, Draw, link.signed.grid, link.rules.account)
        (grade,) = [verify_document(one, Grade, link.signed.grid, link.rules.account) for one in dossier.grades]
        found: list[tuple[Line, ItemResult]] = []
        for drawn, task in zip(draw.items, grade.tasks, strict=True):
            items = read_items(await link.lines(drawn.root))
            found += zip(items, read_results(await link.lines(task.results)), strict=True)
        return found


def test_it_waits_is_served_and_graded_through_the_chain_as_here(contest: Contest, model: Path) -> None:
    assert contest.json(contest.grader, "grade", "--via", "local", *SMALL_MACHINE) == []
    author = contest.member("author", "2")
    id_ = contest.submit(author, model, "large")
    assert contest.running is not None
    contest.running.wait_for("It waits for a grader that can hold")
    (mine,) = contest.json(author, "submissions")
    assert mine["state"] == "queued" and "those that ask hold none" in mine["next"]
    done = gridllm(contest.grader, "leaderboard", "grade", "--via", "local", *SMALL_MACHINE, timeout_s=180)
    assert done.returncode == 0 and "waits for a grader that can hold it" in done.stderr and "--via auto" in done.stderr

    assert contest.json(contest.grader, "grade", *SMALL_MACHINE) == []  # it may use the grid: the model is taken up
    contest.running.wait_for("listed")
    contest.grid.add(*SPANS, extra=("--model", "large"))
    (row,) = contest.graded(id_, extra=SMALL_MACHINE)
    assert (row["submission"], row["place"], row["champion"]) == (id_, 1, True)
    (grade,) = contest.json(contest.grader, "show", id_)["grades"]
    assert (grade["via"], grade["dtype"]) == ("grid", "float32")

    plain, compared = PlainGrader(model), asyncio.run(asked_and_answered(contest, id_))
    assert len(compared) == 28
    for item, result in compared:
        here = [plain.text(item["text"])] if "text" in item else plain.choices(item)
        assert result.logliks == pytest.approx(here, abs=1e-2, rel=1e-5)
    said = contest.json(
        author, "verify", id_, "--sample", "20", timeout_s=600
    )  # anybody's machine, with the weights whole
    assert said["sound"] is True
