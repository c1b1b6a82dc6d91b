"""``kill -9`` of the leaderboard's three kinds of process, at moments of a seeded chance, and started again at once."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.command import Running
from tests.swarm.leaderboard_grid import Contest

STAGE_S = 60.0  # a stage that does not come in so long is not waited for
NEWS_S = 8.0  # likewise news of a leaderboard
IDLE_S = 9.0  # a grader that has begun nothing in so long has nothing to grade
TRIES = 40  # of one submission, kills not counted: a leaderboard that is just down is a reason to try again

SUBMIT_STAGES = ("", "bringing its files", "is checking it", "its fee is due", "The fee of", "waits for the next round")
SUBMIT_LAST_S = (8.0, 5.0, 6.0, 1.0, 4.0)
"""What ``submit`` says when a stage begins, and within how long after it is killed."""
GRADE_LAST_S = {"start": 5.0, "item": 3.0, "signed": 0.6}


@dataclass
class Tally:
    """What was killed when."""

    kills: Counter[str] = field(default_factory=Counter)  # by kind
    phases: Counter[str] = field(default_factory=Counter)  # "kind: phase"
    failed: list[str] = field(default_factory=list)  # what commands said that ended with 1 by themselves
    events: list[dict[str, Any]] = field(default_factory=list)  # of the leaderboard's lives
    seen: set[str] = field(default_factory=set)  # how ids begin that ``submit`` acknowledged

    def killed(self, kind: str, phase: str) -> None:
        self.kills[kind] += 1
        self.phases[f"{kind}: {phase}"] += 1


def wait_until(holds: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it came to hold."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


class LeaderboardKiller:
    """Ends the leaderboard again and again; the last life stays, as ``contest.running``."""

    def __init__(self, contest: Contest, flags: Sequence[str], database: Path, tally: Tally) -> None:
        self._contest, self._flags, self._database, self._tally = contest, flags, database, tally

    def start(self) -> Running:
        """One life."""
        self._contest.running = Running(self._contest.grid.maintainer, "leaderboard", "run", "--json", *self._flags)
        return self._contest.running

    def hear(self, running: Running) -> None:
        """What it told."""
        self._tally.events += [json.loads(line) for line in running.output if line.startswith("{") and "}" in line]

    def run(self, kills: int, rng: random.Random) -> None:
        for _ in range(kills):
            running, moment = self.start(), rng.choice(("starts", "any", "news", "news"))
            if moment == "starts":
                time.sleep(rng.uniform(0.0, 3.0))
            else:
                running.wait_for('"ready"', 120)
                if moment == "news":  # just when something was written: the state that it was killed in follows
                    told = len(running.output)
                    wait_until(lambda running=running, told=told: len(running.output) > told, NEWS_S)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 10.0 if moment == "any" else 0.3))
            phase = moment if moment == "starts" else self._phase()
            assert running.stop(signal.SIGKILL) == -signal.SIGKILL, "".join(running.output)
            self._tally.killed("leaderboard", phase)
            self.hear(running)
        self.start().wait_for('"ready"', 120)

    def _phase(self) -> str:
        """As its books have it: the furthest back of what is under way."""
        try:
            with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)) as books:
                states = {row[0] for row in books.execute("SELECT DISTINCT state FROM submissions")}
                last = books.execute("SELECT draw IS NULL, verdict IS NULL FROM rounds ORDER BY number DESC").fetchone()
        except sqlite3.Error:
            return "?"
        under_way = [one for one in ("uploading", "checking", "unpaid", "queued") if one in states]
        if last is not None and last[1]:
            under_way.append("locked" if last[0] else "drawn")
        return "+".join(under_way) or "idle"


class GraderKiller:
    """Ends the grader again and again; the last life stays, as ``running``."""

    def __init__(self, contest: Contest, tally: Tally) -> None:
        self._contest, self._tally = contest, tally
        self.running: Running | None = None

    @property
    def folder(self) -> Path:
        """Where it keeps what it graded."""
        return self._contest.grader / "data" / "gridllm" / "grading"

    def start(self) -> Running:
        self.running = Running(self._contest.grader, "leaderboard", "grade", "--watch", "--json")
        return self.running

    def run(self, kills: int, rng: random.Random) -> None:
        for _ in range(kills):
            stage = rng.choice(("start", "item", "item", "signed"))
            scored, signed = self._scored(), self._signed()
            running = self.start()
            came: Callable[[], bool] = {
                "start": lambda: True,
                "item": lambda scored=scored: self._scored() > scored,  # type: ignore[misc]
                "signed": lambda signed=signed: self._signed() > signed,  # type: ignore[misc]
            }[stage]
            begun = time.time()

            def enough(came: Callable[[], bool] = came, begun: float = begun) -> bool:
                return came() or (time.time() > begun + IDLE_S and self._prepared() < begun)

            wait_until(enough, STAGE_S)
            phase = stage if came() else "nothing to grade" if self._prepared() < begun else "prepares"
            time.sleep(rng.uniform(0.0, GRADE_LAST_S[stage]))
            assert running.stop(signal.SIGKILL) == -signal.SIGKILL, "".join(running.output)
            self._tally.killed("grader", phase)
        self.start()

    def _scored(self) -> int:
        """Bytes of all journals."""
        return sum(file.stat().st_size for file in self.folder.rglob("journal.jsonl"))

    def _prepared(self) -> float:
        """When it last began to run a model, Unix time."""
        return max((file.stat().st_mtime for file in self.folder.rglob("job.json")), default=0.0)

    def _signed(self) -> int:
        return sum(1 for _ in self.folder.rglob("grade.json"))


@dataclass(frozen=True)
class Model:
    """To be submitted."""

    name: str
    folder: Path


class AuthorKiller:
    """Submits one model after the other; each ``submit`` is killed and run again until it comes to its end."""

    def __init__(self, home: Path, tally: Tally) -> None:
        self._home, self._tally = home, tally
        self.ids: list[str] = []

    def run(self, models: Sequence[Model], kills: int, rng: random.Random) -> None:
        """``kills``: of each model's."""
        for model in models:
            self._submit(model, kills, rng)

    def _submit(self, model: Model, kills: int, rng: random.Random) -> None:
        stages = sorted(rng.sample(range(len(SUBMIT_LAST_S)), kills % len(SUBMIT_LAST_S) or len(SUBMIT_LAST_S)))
        stages = sorted([*stages, *(rng.randrange(len(SUBMIT_LAST_S)) for _ in range(kills - len(stages)))])
        for _ in range(TRIES):
            running = self._start(model)
            if stages and self._kill(running, stages[0], rng):
                stages.pop(0)
            elif not stages and running.wait(400) == 0:
                self.ids.append(json.loads(running.output[-1])["id"])
                self._read(running)
                return
            elif stages and running.process.poll() == 0:
                stages[0] = 0  # it is in the queue already: to be killed while it finds that out
            self._read(running)
        raise AssertionError(f"{model.name} is not submitted after {TRIES} tries: {self._tally.failed[-3:]}")

    def _start(self, model: Model) -> Running:
        words = (str(model.folder), "--name", model.name, "--message", "a test", "--license", "MIT", "--json")
        return Running(self._home, "leaderboard", "submit", *words)

    def _kill(self, running: Running, stage: int, rng: random.Random) -> bool:
        """Whether it was alive to be killed."""
        texts = SUBMIT_STAGES[stage:]

        def came() -> bool:
            said = "".join(running.output)
            return running.process.poll() is not None or any(text in said for text in texts)

        wait_until(came, STAGE_S)
        time.sleep(rng.uniform(0.0, SUBMIT_LAST_S[stage]))
        if running.stop(signal.SIGKILL) != -signal.SIGKILL:
            return False
        said = "".join(running.output)
        reached = [text for text in SUBMIT_STAGES if text and text in said]
        self._tally.killed("submit", reached[-1] if reached else "before the leaderboard answers")
        return True

    def _read(self, running: Running) -> None:
        said = "".join(running.output)
        self._tally.seen |= {line[:16] for line in running.output if line[16:17] == "…"}
        if running.process.poll() not in (0, -signal.SIGKILL):
            self._tally.failed.append(" ".join(said.split())[-300:])
