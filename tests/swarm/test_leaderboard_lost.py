"""The champion's files are deleted from the leaderboard's disk: a backup or a seed brings them back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridllm_leaderboard.place import Place
from tests.command import Running
from tests.swarm.grid import LOOPBACK
from tests.swarm.leaderboard_grid import Contest, leaderboard_grid
from tests.trained import shared_folder, stages

pytestmark = [pytest.mark.timeout(2700), pytest.mark.soak]

RULES = ("--task", "sums:20", "--task", "stories:8", "--fee", "0.5")
TOLD_S = 400.0  # it tries to mend its files every two minutes


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with leaderboard_grid(tmp_path_factory.mktemp("grid"), rules=RULES) as made:
        yield made


def lose_weights(contest: Contest) -> Path:
    """What a disk does at its worst moment: nothing of any weights is left, at the next start. The vault."""
    contest.close()
    vault = Place(next(contest.grid.maintainer.rglob("leaderboard.key")).parent).vault
    for part in ("models", "blobs"):
        shutil.rmtree(vault / part)
    contest.start()
    return vault


def until_told(contest: Contest, *texts: str) -> None:
    """Wait until the leaderboard that runs now has said all of it."""
    assert contest.running is not None
    deadline = time.monotonic() + TOLD_S
    while not all(text in " ".join("".join(contest.running.output).split()) for text in texts):
        assert time.monotonic() < deadline, contest.running.output
        assert contest.running.process.poll() is None, contest.running.output
        time.sleep(0.2)


def until_why(contest: Contest, id_: str, text: str) -> None:
    """Wait until the leaderboard says that of the submission."""
    deadline = time.monotonic() + TOLD_S
    while True:
        (told,) = [one["why"] for one in contest.json(contest.grader, "submissions", "--everyone") if one["id"] == id_]
        if text in told:
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.5)


def test_lost_files_come_back_from_a_backup_and_from_a_seed(
    contest: Contest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    worse, middle, better = stages(shared_folder(tmp_path_factory))
    author, home, backup = contest.member("author", "3"), contest.grid.maintainer, str(tmp_path / "leaderboard.tar")
    first = contest.submit(author, middle, "first")
    (row,) = contest.graded(first)
    assert (row["submission"], row["champion"]) == (first, True)
    contest.json(home, "backup", backup)

    vault = lose_weights(contest)  # nobody hands them out
    advice = "gridllm leaderboard restore FILE --weights, or run gridllm seed --model first --path FOLDER"
    until_told(contest, "The champion 'first' cannot be graded", "nobody hands it out", advice, "Rounds wait for it")
    second = contest.submit(author, worse, "second")
    until_why(contest, second, "while the champion's files are looked for")
    assert contest.json(contest.grader, "grade") == []  # no round without the champion
    assert not (vault / "models" / row["root"]).exists()
    contest.close()
    contest.json(home, "restore", backup, "--weights")
    assert (vault / "models" / row["root"]).is_dir()
    contest.start()
    until_told(contest, "The files of the champion first are sound again")
    champions = {one["submission"]: one["champion"] for one in contest.graded(first, second)}
    assert champions == {first: True, second: False}

    lose_weights(contest)
    until_told(contest, "The champion 'first' cannot be graded", "nobody hands it out")
    third = contest.submit(author, better, "third")
    friend = contest.member("friend")
    seed = ("seed", "--model", "first", "--path", str(middle), "--host-maddrs", LOOPBACK)
    with Running(friend, *seed) as seeding:
        seeding.wait_for("helping as seed with the weights of first")
        until_told(contest, "The files of the champion first are sound again")
    contest.graded(third)
    shown = contest.json(contest.grader, "show", third)
    assert shown["champion_met"] == "first" and shown["duel"]  # it was measured against the one that was lost
    assert contest.json(contest.grader, "verify", third, timeout_s=600)["sound"] is True
