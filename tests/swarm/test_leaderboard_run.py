"""``gridllm leaderboard init`` and ``run`` as processes: what they show, what they refuse, how they end and go on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.command import Running, gridllm
from tests.swarm.grid import LOOPBACK, process_grid


def test_a_leaderboard_is_opened_run_killed_and_run_again(tmp_path: Path) -> None:
    ledger = ("--open", "--newcomers", "lowest", "--ledger")
    with process_grid(tmp_path, model="demo", admission=ledger) as grid:
        home = grid.maintainer
        assert "gridllm leaderboard init" in refused(home, "run")
        assert "no leaderboard" in refused(grid.home, "rank")
        first = said(home, "init", "--round", "0s", "--fee", "2", "--task", "sums:20")
        assert (first["serial"], first["fee"], first["round_s"], len(first["graders"])) == (1, 2_000_000, 0, 1)
        assert "quorum of 2" in refused(home, "init", "--quorum", "2")
        grader = said(grid.home, "id", board=False)["peer"]
        then = said(home, "init", "--grader", grader, "--bounty", "1.5", "--patience", "2d")
        assert (then["serial"], then["fee"], then["bounty"]) == (2, 2_000_000, 1_500_000)
        assert then["patience_s"] == 2 * 86400 and "patience_s" not in first
        assert then["tasks"] == first["tasks"] and then["graders"] != first["graders"]

        flags = ("leaderboard", "run", "--host-maddrs", LOOPBACK, "--json")
        with Running(home, *flags) as running:
            ready = json.loads(running.wait_for('"ready"'))
            assert ready["account"] == then["account"]
            assert "There is no round 1" in refused(home, "annul", "1", "--why", "nobody is there")
            assert "in use by process" in refused(home, "run", "--host-maddrs", LOOPBACK)
            assert gridllm(grid.home, "leaderboard", "rank").returncode == 0
            assert running.stop() == 0
            assert '"stopped"' in running.output[-1]
        with Running(home, *flags) as running:
            running.wait_for('"ready"')
            running.stop(signal.SIGKILL)
        with Running(home, *flags) as running:
            assert json.loads(running.wait_for('"ready"'))["peer"] == ready["peer"]
            assert said(grid.home, "history") == {"reigns": [], "annulled": []}
            assert running.stop(signal.SIGTERM) == 0


def said(home: Path, *args: str, board: bool = True) -> Any:
    done = gridllm(home, *(("leaderboard",) if board else ()), *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(home: Path, *args: str) -> str:
    """The sentence, on one line."""
    done = gridllm(home, "leaderboard", *args)
    assert done.returncode in (1, 2), (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())
