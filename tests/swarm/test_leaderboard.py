"""The leaderboard from end to end: really trained models, graded on real text, ranked as plain transformers ranks them.

One grid, one story: a middling model becomes champion, a worse and an equal one do not, a better one does.
"""

from __future__ import annotations

import asyncio
import pydoc_data.topics
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridllm.charter.pin import Pins
from gridllm_leaderboard.link import asking_leaderboard
from gridllm_leaderboard.messages import DOSSIER_CALL, AskDossier, Dossier
from gridllm_leaderboard.results import Line, read_items
from gridllm_leaderboard.statements import Draw, verify_document
from gridllm_leaderboard.tasks.from_text import main as task_from_text
from tests.command import gridllm
from tests.plain_grader import PlainGrader
from tests.swarm.leaderboard_grid import Contest, leaderboard_grid
from tests.swarm.leaderboard_restored import check_backup_and_restore
from tests.trained import shared_folder, stages

pytestmark = [pytest.mark.timeout(1500), pytest.mark.soak]  # six gradings

TEXTS = {"stories": 8, "manual": 1}  # weights
CHOICES = {"sums": 1, "facts": 1}
FEE, BOUNTY = 500_000, 3_000_000
FUNDS = 2_000_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stages of one training, and the middle one with noise on its weights that nobody can tell."""
    worse, middle, better = stages(shared_folder(tmp_path_factory))
    equal = tmp_path_factory.mktemp("equal") / "model"
    shutil.copytree(middle, equal)
    torch.manual_seed(0)
    weights = load_file(equal / "model.safetensors")
    noisy = {name: one * (1 + 2e-3 * torch.randn_like(one)) for name, one in weights.items()}
    save_file(noisy, equal / "model.safetensors", metadata={"format": "pt"})
    return {"worse": worse, "middle": middle, "equal": equal, "better": better}


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    """Its tasks: real text (the documentation of Python's language), stories, and two kinds of questions."""
    folder = tmp_path_factory.mktemp("text")
    source = folder / "topics.txt"
    source.write_text("\n\n".join(pydoc_data.topics.topics.values()))
    task_from_text([str(source), "--out", str(folder / "manual")])
    tasks = [f"{folder / 'manual'}:30:1", "stories:40:8", "sums:40:1", "facts:40:1"]
    rules = [word for task in tasks for word in ("--task", task)]
    with leaderboard_grid(tmp_path_factory.mktemp("grid"), rules=(*rules, "--fee", "0.5", "--bounty", "3")) as made:
        yield made


@pytest.fixture(scope="module")
def ids(contest: Contest, models: Mapping[str, Path]) -> dict[str, str]:
    """What was submitted, each by an account of its own, in three rounds."""
    homes = {name: contest.member(name, "2") for name in models}
    made = {"middle": contest.submit(homes["middle"], models["middle"], "middle")}
    contest.graded(made["middle"])
    assert champions(contest) == [made["middle"]]
    with ThreadPoolExecutor(2) as both:
        for name, said in zip(
            ("worse", "equal"),
            both.map(lambda name: contest.submit(homes[name], models[name], name), ("worse", "equal")),
            strict=True,
        ):
            made[name] = said
    contest.graded(made["worse"], made["equal"])
    assert champions(contest) == [made["middle"]]
    made["better"] = contest.submit(homes["better"], models["better"], "better")
    contest.graded(made["better"])
    return made


def champions(contest: Contest) -> list[str]:
    """All that there were, oldest first."""
    return [one["submission"] for one in contest.json(contest.grader, "history")["reigns"]]


async def items_of(contest: Contest, submission: str) -> dict[str, list[Line]]:
    """The items that a model was graded on last, as anybody gets them."""
    pins = Pins(contest.grader / "data" / "gridllm")
    async with asking_leaderboard(pins.current(), pins) as link:
        dossier = await link.ask(DOSSIER_CALL, AskDossier(submission), Dossier)
        assert dossier.draw is not None
        draw = verify_document(dossier.draw, Draw, link.signed.grid, link.rules.account)
        return {one.task: read_items(await link.lines(one.root)) for one in draw.items}


def test_the_ranking_is_that_of_plain_transformers(
    contest: Contest, ids: Mapping[str, str], models: Mapping[str, Path]
) -> None:
    rows = contest.json(contest.grader, "rank", "--all")
    assert {row["submission"] for row in rows} == set(ids.values())
    scores = {}
    for name, submission in ids.items():
        row = next(one for one in rows if one["submission"] == submission)
        plain, items = PlainGrader(models[name]), asyncio.run(items_of(contest, submission))
        told = {task: interval["value"] for task, interval in row["tasks"].items()}
        direct = {task: plain.bits_per_byte(items[task]) for task in TEXTS}
        direct |= {task: plain.right(items[task]) for task in CHOICES}
        assert told == pytest.approx(direct, abs=1e-4), name
        points = {task: plain.text_points(items[task]) for task in TEXTS} | {task: direct[task] for task in CHOICES}
        weights = TEXTS | CHOICES
        scores[submission] = 100 * sum(weights[task] * points[task] for task in weights) / sum(weights.values())
        assert row["score"]["value"] == pytest.approx(scores[submission], abs=1e-2)
    assert [row["submission"] for row in rows] == sorted(scores, key=lambda one: -scores[one])
    assert rows[0]["submission"] == ids["better"]
    assert rows[-1]["submission"] == ids["worse"]


def test_only_a_better_model_takes_the_championship(contest: Contest, ids: Mapping[str, str]) -> None:
    reigns = contest.json(contest.grader, "history")["reigns"]
    assert [one["submission"] for one in reigns] == [ids["middle"], ids["better"]]
    assert reigns[1]["lead"]["low"] > 0
    crowned = [row["submission"] for row in contest.json(contest.grader, "rank") if row["champion"]]
    assert crowned == [ids["better"]]
    told = contest.refused(contest.grid.home.parent / "better", "withdraw", ids["better"], "--yes")
    assert "champion" in told


def test_fees_and_bounties_are_in_the_books(contest: Contest, ids: Mapping[str, str]) -> None:
    for name in ids:
        facts: dict[str, Any] = contest.json(contest.grid.home.parent / name, "credit", board=False)
        expected = FUNDS - FEE + (BOUNTY if name in ("middle", "better") else 0)
        assert facts["balance"] == expected, name
    assert contest.json(contest.grader, "ledger", "verify", board=False)["sound"] is True


def test_anyone_can_verify_each(contest: Contest, ids: Mapping[str, str]) -> None:
    for name, submission in ids.items():
        rerun = () if name == "better" else ("--no-rerun",)
        said = contest.json(contest.grid.home, "verify", submission, *rerun)
        assert said["sound"] is True, said


def test_the_champion_is_served_and_used(contest: Contest, ids: Mapping[str, str]) -> None:
    number = contest.grid.add("auto", extra=("--model", "@champion"))[0]
    done = gridllm(contest.grid.home, "generate", "Once upon a time", "--model", "@champion", "--json",
                   "--max-new-tokens", "12", "--wait", "30", timeout_s=180)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"model": "better"' in done.stdout
    assert contest.grid.stop(number) == 0


def test_every_listing_outlives_a_restart_and_a_backup(
    contest: Contest, ids: Mapping[str, str], tmp_path: Path
) -> None:
    listings = (("rank", "--all"), ("submissions", "--everyone"), ("history",), ("show", ids["equal"]))
    before = [contest.json(contest.grader, *one) for one in listings]
    assert contest.running is not None
    assert contest.running.stop() == 0
    contest.start()
    assert [contest.json(contest.grader, *one) for one in listings] == before
    check_backup_and_restore(contest, tmp_path / "board.backup")
