"""Leaderboard, grader and authors are killed (``kill -9``) at random moments while models go their way to the ranking.

Nothing that was acknowledged is lost, nothing is graded, paid or granted twice, and an upload goes on where it was.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridllm.charter.pin import Pins
from gridllm.models.files import DEMO, find_model
from gridllm_leaderboard.place import Place
from gridllm_leaderboard.statements import Verdict, verify_document
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.integrity import Integrity
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.swarm.counted_line import CountedLine
from tests.swarm.grid import process_grid
from tests.swarm.leaderboard_grid import DECIDED_S, Contest
from tests.swarm.leaderboard_killers import AuthorKiller, GraderKiller, LeaderboardKiller, Model, Tally, wait_until

SEED = int(os.environ.get("GRIDLLM_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
FEE, BOUNTY = 500_000, 1_250_000  # micro-credits
RULES = ("--round", "0s", "--fee", "0.5", "--bounty", "1.25", "--task", "sums:12", "--task", "stories:8")
BYTES_PER_S = 2_000_000  # of uploads: some seconds for a model
SPARE = 1.5  # bytes that authors sent, by bytes of models
FAMILY = ("--open", "--newcomers", "lowest")


def noisy(folder: Path, noise: float, seed: int) -> Path:
    """The demo model, the worse the more ``noise``: a share of each tensor's own spread."""
    source, chance = find_model(DEMO), torch.Generator().manual_seed(seed)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        plain = tensor.float()
        spread = noise * plain.std() if plain.numel() > 1 else 0.0
        tensors[name] = (plain + spread * torch.randn(plain.shape, generator=chance)).to(tensor.dtype)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


class Season:
    """Some models by some authors, until all are graded."""

    def __init__(self, contest: Contest, account: str, line: CountedLine, models: Sequence[Sequence[Model]]) -> None:
        self.contest, self.account, self.line, self.models = contest, account, line, models
        office = contest.grid.maintainer / "data" / "gridllm" / "bootstrap"
        self.grid = Pins(office).current("test").grid
        self.place = Place(office / "grids" / "test")
        self.tally = Tally()
        listening = f"/ip4/127.0.0.1/tcp/{line.target}", f"/ip4/127.0.0.1/tcp/{line.port}"
        flags = ("--host-maddrs", listening[0], "--announce-maddrs", listening[1])
        self.leaderboard = LeaderboardKiller(contest, flags, self.place.database, self.tally)
        self.grader = GraderKiller(contest, self.tally)
        self.homes = [contest.member(f"author{number}", "5") for number in range(len(models))]
        self.ids: list[str] = []

    def pass_by(self, kills: int) -> None:
        """All at once; ``kills`` of each kind."""
        authors = [AuthorKiller(home, self.tally) for home in self.homes]
        each = kills // sum(map(len, self.models))
        with ThreadPoolExecutor(2 + len(authors)) as threads:
            work = [
                threads.submit(self.leaderboard.run, kills, random.Random(f"{SEED} leaderboard")),
                threads.submit(self.grader.run, kills, random.Random(f"{SEED} grader")),
                *(
                    threads.submit(author.run, mine, each, random.Random(f"{SEED} author {number}"))
                    for number, (author, mine) in enumerate(zip(authors, self.models, strict=True))
                ),
            ]
            for one in work:
                one.result()
        self.ids = [id_ for author in authors for id_ in author.ids]
        states: dict[str, str] = {}

        def all_graded() -> bool:
            found = self.contest.json(self.contest.grader, "submissions", "--everyone")
            states.update({one["id"]: one["state"] for one in found})
            return set(states.values()) == {"graded"}

        assert wait_until(all_graded, 2 * DECIDED_S), states
        assert sorted(states) == sorted(self.ids)  # nothing lost, nothing twice
        assert self.tally.seen <= {id_[:16] for id_ in self.ids}


@contextmanager
def season(folder: Path, authors: int, count: int) -> Iterator[Season]:
    """``count``: of models."""
    models = [
        Model(f"model {number}", noisy(folder / f"model{number}", 1.2 - 1.2 * number / count, number))
        for number in range(count)
    ]
    line = CountedLine(BYTES_PER_S)
    with process_grid(folder, admission=FAMILY) as grid:
        contest = Contest(grid, folder)
        given = contest.json(grid.maintainer, "init", "--grader", contest.account(contest.grader), *RULES)
        made = Season(contest, given["account"], line, [models[number::authors] for number in range(authors)])
        try:
            yield made
        finally:
            for running in (contest.running, made.grader.running):
                if running is not None:
                    running.__exit__(None, None, None)
            line.close()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kills", "authors", "count"),
    [
        pytest.param(4, 2, 2, id="few", marks=pytest.mark.timeout(900)),
        pytest.param(30, 3, 3, id="many", marks=pytest.mark.timeout(3600)),
    ],
)
def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path, kills: int, authors: int, count: int) -> None:
    begun = time.monotonic()
    say(f"\nGRIDLLM_TEST_SEED={SEED}, load {os.getloadavg()}")
    with season(tmp_path, authors, count) as made:
        made.pass_by(kills)
        show(made, time.monotonic() - begun)
        assert all(made.tally.kills[kind] == kills for kind in ("leaderboard", "grader", "submit")), made.tally.kills
        champions = check_rounds(made)
        check_money(made, champions)
        check_uploads(made)
        for id_ in made.ids:
            done = made.contest.json(made.contest.grader, "verify", id_, "--sample", "4")
            assert done["sound"] and not done["fault"]
        made.contest.json(made.contest.grader, "ledger", "verify", board=False)
    say(f"{time.monotonic() - begun:.0f} s in all, load {os.getloadavg()}")


def say(text: str) -> None:
    """To be seen with -s, or when it fails."""
    print(text)  # noqa: T201


def show(made: Season, took_s: float) -> None:
    """For whoever runs it with -s, or reads why it failed."""
    tally, sizes = made.tally, made_bytes(made)
    say(f"{dict(tally.kills)} in {took_s:.0f} s, load {os.getloadavg()}")
    for phase, count in sorted(tally.phases.items()):
        say(f"  {count:3} {phase}")
    for said, count in Counter(tally.failed).items():
        say(f"  {count:3} ended by itself: {said}")
    say(f"  {made.line.carried:,} bytes sent of models of {sizes:,}")


def made_bytes(made: Season) -> int:
    """Of all models' weights and tokenizers."""
    files = [file for mine in made.models for model in mine for file in model.folder.iterdir()]
    return sum(file.stat().st_size for file in files if file.suffix == ".safetensors" or "token" in file.name)


def check_rounds(made: Season) -> list[str]:
    """One lock of each submission, one grade of each model and round; the store is sound. Champions' ids, in order."""
    made.leaderboard.hear(running := made.contest.running)  # type: ignore[arg-type]
    assert running is not None
    engine = open_engine(made.place.database_url)
    store, integrity = LeaderboardStore(engine), Integrity(made.grid, made.account)
    with store.copied() as (_, pages):
        for page in pages:
            integrity.check(page)
    with store.reading() as view:
        rounds, reigns = view.rounds(0, 1000), view.reigns()
        locked = Counter(id_ for one in rounds for id_ in one.lock.submissions)
        graded = [(one.number, id_) for one in rounds for id_ in one.graded]
        grades = [(one.number, kept.document.submission) for one in rounds for kept in view.grades(one.number)]
        assert not [kept for one in rounds for kept in view.failures(one.number)]
    store.close()
    assert locked == dict.fromkeys(made.ids, 1)
    assert sorted(grades) == sorted(graded)  # there is one grader
    # Nothing was signed that was not taken, nor signed twice.
    assert sum(1 for _ in made.grader.folder.rglob("grade.json")) == len(grades)
    verdicts = [verify_document(one.verdict_raw or b"", Verdict, made.grid, made.account) for one in rounds]
    assert [one.submission for one in reigns] == [one.champion for one in reversed(verdicts) if one.changed]
    told: Counter[Any] = Counter(one["submission"] for one in made.tally.events if one["event"] == "crowned")
    assert set(told) <= {one.submission for one in reigns} and set(told.values()) <= {1}
    say(f"  {len(rounds)} rounds, {len(grades)} grades, {len(reigns)} champions")
    return [one.submission for one in reigns]


def check_money(made: Season, champions: Sequence[str]) -> None:
    """One fee for each submission, one bounty for each reign, to the micro-credit."""
    standing = made.contest.json(made.contest.grader, "credit", "--account", made.account, board=False)
    assert standing["received"] == FEE * len(made.ids) and not standing["sent"]
    paid: Counter[str] = Counter()
    granted = 0
    for home in made.homes:
        lines = made.contest.json(home, "credit", "history", "--limit", "10000", board=False)
        sent = [one for one in lines if one["what"] == "sent"]
        assert {one["amount"] for one in sent} == {-FEE}
        paid.update(one["text"] for one in sent)
        granted += made.contest.json(home, "credit", board=False)["granted"]
    assert paid == {f"leaderboard {id_[:32]}": 1 for id_ in made.ids}
    assert granted == 5_000_000 * len(made.homes) + BOUNTY * len(champions)
    crown = made.contest.json(made.contest.grader, "history")["reigns"]
    assert [one["submission"] for one in crown] == list(champions)


def check_uploads(made: Season) -> None:
    """What was sent is little more than what the models are."""
    size = made_bytes(made)
    assert 0.97 * size < made.line.carried < SPARE * size  # less: it did not come by this line
