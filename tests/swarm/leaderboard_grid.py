"""A grid with a leaderboard, of real processes: maintainer, leaderboard, graders and authors, each with a home."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.command import Running, gridllm
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid

DECIDED_S = 300.0  # for a round to be locked, drawn, graded and judged on a busy machine


class Contest:
    """Handed out by ``leaderboard_grid``."""

    def __init__(self, grid: ProcessGrid, folder: Path, flags: Sequence[str] = ()) -> None:
        """``flags``: of ``gridllm leaderboard run``."""
        self.grid = grid
        self._folder = folder
        self.flags = flags
        self.running: Running | None = None
        self.grader = self.member("grader")

    def member(self, name: str, credits_: str = "") -> Path:
        """A home that joined, with credit granted where some is named."""
        home = self._folder / name
        done = gridllm(home, "join", "--no-admission", self.grid.address, "--json")
        assert done.returncode == 0, done.stderr
        if credits_:
            self.grid.maintain("grant", json.loads(done.stdout)["peer"], credits_, "--why", "to take part")
        return home

    def account(self, home: Path) -> str:
        """The account's key in hex."""
        return str(self.json(home, "id", board=False)["public_key"])

    def json(self, home: Path, *args: str, board: bool = True, timeout_s: float = 180.0) -> Any:
        """One command that succeeds: what it prints with ``--json``."""
        words = ("leaderboard", *args) if board else args
        done = gridllm(home, *words, "--json", timeout_s=timeout_s)
        assert done.returncode == 0, (args, done.stderr, done.stdout[-2000:])
        return json.loads(done.stdout)

    def refused(self, home: Path, *args: str) -> str:
        """One command that fails with a sentence: the sentence, on one line."""
        done = gridllm(home, "leaderboard", *args, timeout_s=180)
        assert done.returncode == 1, (args, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    def start(self) -> None:
        """Run the leaderboard: for the first time, or again."""
        self.running = Running(self.grid.maintainer, "leaderboard", "run", "--host-maddrs", LOOPBACK, *self.flags)
        self.running.wait_for("Ready")

    def submit(self, home: Path, folder: Path, name: str, *extra: str) -> str:
        """Submit a model folder and pay; the submission's id."""
        said = self.json(home, "submit", str(folder), "--name", name, "--message", "a test", "--license", "MIT", *extra)
        return str(said["id"])

    def graded(self, *ids: str, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Have the grader work (with ``extra`` flags) until these submissions are graded: the ranking's rows."""
        deadline = time.monotonic() + DECIDED_S
        while True:
            self.json(self.grader, "grade", *extra, timeout_s=DECIDED_S)
            states = {one["id"]: one["state"] for one in self.json(self.grader, "submissions", "--everyone")}
            if all(states[one] in ("graded", "failed") for one in ids):
                return list(self.json(self.grader, "rank", "--all"))
            assert time.monotonic() < deadline, states
            time.sleep(0.5)

    def close(self) -> None:
        """End the leaderboard."""
        if self.running is not None:
            self.running.__exit__(None, None, None)


@contextmanager
def leaderboard_grid(
    folder: Path,
    *spans: str,
    rules: Sequence[str] = (),
    founding: Sequence[str] = (),
    model: str = "demo",
    extra: Sequence[str] = (),
    running: Sequence[str] = (),
) -> Iterator[Contest]:
    """A grid whose maintainer runs a leaderboard; ends all of it.

    Args:
        spans: of the charter's model, each served by a node.
        rules: flags of ``gridllm leaderboard init``.
        founding: flags of ``gridllm bootstrap init``.
        running: flags of ``gridllm leaderboard run``.
    """
    admission = ("--open", "--newcomers", "lowest", *founding)
    with process_grid(folder, *spans, model=model, admission=admission, extra=extra) as grid:
        contest = Contest(grid, folder, running)
        try:
            given = ("--round", "0s", "--grader", contest.account(contest.grader), *rules)
            contest.json(grid.maintainer, "init", *given)
            contest.start()
            yield contest
        finally:
            contest.close()
