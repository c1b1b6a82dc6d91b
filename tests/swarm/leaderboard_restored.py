"""A leaderboard that runs is backed up, loses its database and weights, is restored, and goes on: with any contest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gridllm_leaderboard.place import Place
from tests.swarm.leaderboard_grid import Contest


def check_backup_and_restore(contest: Contest, file: Path) -> None:
    """Leaves the leaderboard running, with all that it had."""
    home = contest.grid.maintainer
    before = listings(contest)
    saved = contest.json(home, "backup", str(file))
    assert saved["size"] == file.stat().st_size and saved["submissions"] == len(before[0])
    assert "in use by process" in contest.refused(home, "restore", str(file))
    contest.close()
    place = Place(next(home.rglob("leaderboard.key")).parent)
    for gone in place.folder.glob("leaderboard.sqlite*"):
        gone.unlink()
    shutil.rmtree(place.vault)
    assert contest.json(home, "restore", str(file)) == saved
    contest.start()
    assert listings(contest) == before


def listings(contest: Contest) -> list[Any]:
    """What people are told."""
    return [contest.json(contest.grader, "submissions", "--everyone"), contest.json(contest.grader, "rank", "--all")]
