"""Scores compare where the same was asked: models that other tasks graded are ranked apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.charter.contest import Rules, TaskRule
from gridllm_leaderboard.desk.standing import Standing
from gridllm_leaderboard.messages import AskRank, RankRow
from gridllm_leaderboard.ranking.yardstick import yardstick
from gridllm_leaderboard.records import Entry, Mark
from tests.leaderboard_seasons import digest, submitted
from tests.ledgers import paid_grid
from tests.unit.test_leaderboard_decisions import GRADERS, rules

SUMS = TaskRule(name="sums", kind="choice", commitment="5" * 64, items=20, weight=2)
CLUB = TaskRule(name="club", kind="text", commitment="6" * 64, items=20, weight=4)


@pytest.mark.parametrize(
    ("tasks", "same"),
    [
        pytest.param((CLUB, SUMS), True, id="another order"),
        pytest.param((SUMS.model_copy(update={"items": 400}), CLUB), True, id="more items"),
        pytest.param(
            (SUMS.model_copy(update={"weight": 5}), CLUB.model_copy(update={"weight": 10})), True, id="shares"
        ),
        pytest.param((SUMS, CLUB.model_copy(update={"weight": 5})), False, id="another weight"),
        pytest.param((SUMS, CLUB.model_copy(update={"commitment": "7" * 64})), False, id="another pool"),
        pytest.param((SUMS,), False, id="a task less"),
    ],
)
def test_what_compares(tasks: tuple[TaskRule, ...], same: bool) -> None:
    before = yardstick(rules(tasks=(SUMS, CLUB)))
    after = yardstick(rules(serial=9, fee=7, graders=GRADERS[:1], round_s=0, tasks=tasks))
    assert (before == after) is same


class Season:
    """Rounds under several rules; ``season.desk`` holds the last of them."""

    def __init__(self, *held: Rules) -> None:
        self.held = {digest("rules", one.serial): one for one in held}
        self.entries: dict[str, Entry] = {}
        self.rounds: dict[int, str] = {}
        self.best: list[Mark] = []
        self.desk: Any = SimpleNamespace(
            books=SimpleNamespace(read=self._read),
            ranked=0,
            rules=held[-1],
            rules_of=lambda view, id_: self.held[id_],
            signed=paid_grid(),
        )

    def graded(self, round_: int, under: Rules, **scores: float) -> None:
        """A round's marks, by model."""
        self.rounds[round_] = digest("rules", under.serial)
        for name, score in scores.items():
            number = ord(name)
            said = submitted(number).submission.model_copy(update={"name": name})
            self.entries[digest("id", number)] = Entry(digest("id", number), b"", said, "graded", 0)
            tasks = {task.name: (score / 100, score / 100 - 0.01, score / 100 + 0.01) for task in under.tasks}
            mark = Mark(digest("id", number), round_, score, score - 1, score + 1, tasks)
            self.best = [one for one in self.best if one.submission != mark.submission] + [mark]

    async def _read(self, work: Any) -> Any:
        view = SimpleNamespace(
            marks=lambda: self.best,
            several=lambda ids: {one: self.entries[one] for one in ids},
            champion=lambda: None,
            value=lambda key: None,
            rules_by_round=lambda after=0: {number: id_ for number, id_ in self.rounds.items() if number > after},
        )
        return await asyncio.to_thread(work, view)


def told(rows: list[RankRow]) -> list[tuple[str, int, int, bool]]:
    return [(row.name, row.place, row.rules, row.current) for row in rows]


async def test_models_that_other_tasks_graded_are_ranked_apart() -> None:
    first, dearer = rules(tasks=(SUMS,)), rules(serial=2, tasks=(SUMS,), fee=5)
    season = Season(first, dearer)
    season.graded(1, first, a=80.0, b=40.0)
    season.graded(2, dearer, c=60.0)
    standing = Standing(season.desk)
    page = await standing.rank(AskRank())
    assert told(page.rows) == [("a", 1, 1, True), ("c", 2, 1, True), ("b", 3, 1, True)]
    assert (page.older, page.rules) == (0, 1)

    now = rules(serial=3, tasks=(SUMS, CLUB))  # nothing was graded by these tasks yet
    season.held[digest("rules", 3)] = season.desk.rules = now
    await standing.warm()
    page = await standing.rank(AskRank())
    assert (page.rows, page.total, page.older, page.rules, list(page.tasks)) == ([], 0, 3, 3, ["sums", "club"])

    season.graded(3, now, c=10.0, d=30.0)  # c for the second time
    season.desk.ranked += 1
    await standing.warm()
    page = await standing.rank(AskRank())
    assert told(page.rows) == [("d", 1, 3, True), ("c", 2, 3, True)] and page.older == 2
    page = await standing.rank(AskRank(everyone=True))
    assert told(page.rows)[2:] == [("a", 1, 1, False), ("b", 2, 1, False)] and (page.total, page.older) == (4, 0)
    by_task = await standing.rank(AskRank(task="sums", everyone=True))
    assert told(by_task.rows) == told(page.rows)
    assert [row.name for row in (await standing.rank(AskRank(task="club", everyone=True))).rows] == ["c", "d"]

    season.held[digest("rules", 4)] = season.desk.rules = rules(serial=4, tasks=(SUMS,))  # as at first
    await standing.warm()
    assert told((await standing.rank(AskRank())).rows) == [("a", 1, 1, True), ("b", 2, 1, True)]
