"""Graded models that are graded again: who may ask when, whose turn it is, and that it costs nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.charter.contest import Rules
from gridllm.errors import NotAccepted
from gridllm.identity.keys import Identity
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk.regrading import check_regrade, in_turn
from tests.leaderboard_seasons import submitted
from tests.unit.leaderboard_house import House, house
from tests.unit.test_leaderboard_decisions import TASK, rules

NOW = rules(serial=2, tasks=(TASK.model_copy(update={"commitment": "6" * 64}),))


@pytest.mark.parametrize(
    ("state", "measured", "changes", "text"),
    [
        pytest.param("queued", None, {}, "only what was graded", id="in no round yet"),
        pytest.param("failed", rules(), {}, "only what was graded", id="failed"),
        pytest.param("withdrawn", rules(), {}, "only what was graded", id="withdrawn"),
        pytest.param("graded", rules(), {"champion": True}, "each round grades it again", id="champion"),
        pytest.param("graded", rules(fee=7), {}, "when they change", id="the same tasks"),
        pytest.param("graded", NOW, {}, "when they change", id="these tasks"),
        pytest.param("graded", rules(), {"here": False}, "tell its maintainer", id="files lost"),
        pytest.param("graded", rules(), {"waiting": 3}, "3 models of yours wait", id="too many at once"),
        pytest.param("graded", rules(), {}, None, id="allowed"),
    ],
)
def test_who_may_ask(state: Any, measured: Rules | None, changes: dict[str, Any], text: str | None) -> None:
    now = rules(fee=7) if measured is not None and measured.fee else NOW
    facts: dict[str, Any] = {"waiting": 0, "champion": False, "here": True} | changes
    entry = replace(submitted(1), state=state)
    if text is None:
        check_regrade(entry, now, measured, **facts)
        return
    with pytest.raises(NotAccepted, match=text):
        check_regrade(entry, now, measured, **facts)


def test_those_without_a_place_come_first() -> None:
    waiting = [replace(submitted(number), round=round_) for number, round_ in enumerate((2, 0, 1, 0))]
    view: Any = SimpleNamespace(in_state=lambda *states: waiting, value=lambda key: None)
    assert [entry.submission.name for entry in in_turn(view)] == ["model-1", "model-3", "model-0", "model-2"]


async def asked(made: House, id_: str, who: Identity) -> messages.SubmissionView:
    said = messages.Regrade(made.delegation(who), id_)
    view: messages.SubmissionView = await made.ask(who, messages.REGRADE_CALL, said, messages.SubmissionView)
    return view


async def ranked(made: House, rows: int, *, everyone: bool = False) -> list[messages.RankRow]:
    """The ranking under the second rules, once it has so many rows: it follows a verdict within a moment."""
    async with asyncio.timeout(60):
        while True:
            ask = messages.AskRank(everyone=everyone)
            page = await made.ask(made.author, messages.RANK_CALL, ask, messages.Rank)
            if page.rules == 2 and page.total == rows:
                return list(page.rows)
            await asyncio.sleep(0.05)


async def test_after_new_tasks_an_author_has_a_model_graded_again(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        names = {"model 1": 0.9, "model 2": 0.5, "model 3": 0.7}
        first = await made.submit(1)
        await made.grade_all(names.__getitem__)
        await made.until(first, "graded")
        second = await made.submit(2)
        await made.grade_all(names.__getitem__)
        await made.until(second, "graded")
        with pytest.raises(NotAccepted, match="by the tasks that hold now"):
            await asked(made, second, made.author)

        made.say_rules(tasks=(made.tasks["sums"].rule(60),), fee=5)
        with pytest.raises(NotAccepted, match="has no submission"):
            await asked(made, second, made.second)
        with pytest.raises(NotAccepted, match="is champion"):
            await asked(made, first, made.author)
        rows = await ranked(made, 2, everyone=True)
        assert [(row.name, row.rules, row.current) for row in rows] == [
            ("model 1", 1, False),
            ("model 2", 1, False),
        ]

        assert (await asked(made, second, made.author)).state in ("queued", "locked")  # without a fee
        assert (await asked(made, second, made.author)).state in ("queued", "locked")  # said again
        await made.grade_all(names.__getitem__)  # the champion, too
        view = await made.until(second, "graded")
        assert (view.round, view.fee) == (3, 0)
        assert [(row.name, row.place, row.rules, row.champion) for row in await ranked(made, 2)] == [
            ("model 1", 1, 2, True),
            ("model 2", 2, 2, False),
        ]
        with pytest.raises(NotAccepted, match="by the tasks that hold now"):
            await asked(made, second, made.author)
