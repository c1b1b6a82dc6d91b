"""The backup of a leaderboard that runs, alone; other tests check it where there is something to lose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.swarm.leaderboard_grid import leaderboard_grid
from tests.swarm.leaderboard_restored import check_backup_and_restore


@pytest.mark.soak
def test_backup_while_it_runs_and_restore_while_it_does_not(tmp_path: Path) -> None:
    with leaderboard_grid(tmp_path) as contest:
        check_backup_and_restore(contest, tmp_path / "leaderboard.tar")
