"""What commands about the leaderboard print."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console

from gridllm.ledger.statements import peer_of_account
from gridllm_leaderboard.cli.rank_view import rank_csv, rank_json, rank_renderable
from gridllm_leaderboard.cli.submissions_view import next_step, submissions_json, submissions_renderable
from gridllm_leaderboard.messages import Interval, Rank
from tests.unit.board_pages import BOARD, rank, row, view
from tests.unit.graded_rounds import named


def shown(renderable: Any) -> str:
    console = Console(width=2000, record=True, file=io.StringIO(), soft_wrap=True, highlight=False)
    console.print(renderable, crop=False)
    return console.export_text()


def test_a_ranking_shows_ties_and_the_champion() -> None:
    text = shown(
        rank_renderable(rank(row("a", 1, 50.5), row("b", 1, 49.0, champion=True), row("c", 3, 40.0)), "garden", None)
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:3] == ["Leaderboard", "of", "garden"]
    assert lines[3][:2] == ["=1", "a"] and lines[4][:3] == ["=1", "b", "★"] and lines[5][:2] == ["3", "c"]
    assert "50.50 ±1.50" in text and "1.2346" in text and "62.5%" in text and "8.4 M" in text
    assert " 8.4 " in text  # credits for 1,000 tokens
    assert "gridllm generate --model @champion" in text


def test_a_ranking_without_ties_or_models() -> None:
    text = shown(rank_renderable(rank(row("a", 1, 50.0), row("b", 2, 40.0, tasks={}), total=70), "garden", "sums"))
    assert "=" not in text and "2 of 70 are shown" in text and "by sums alone" in text
    assert "Be the first" in shown(rank_renderable(rank(), "garden", None))


def test_models_that_other_tasks_graded_are_told_apart() -> None:
    page = rank(
        row("a", 1, 50.0, rules=3), row("b", 1, 90.0, rules=1, current=False), row("c", 1, 80.0, rules=2, current=False)
    )
    text = shown(rank_renderable(page, "garden", None))
    assert [line.split()[:3] for line in text.splitlines()[3:6]] == [
        ["1", "a", f"{row('a', 1, 1).account[:8]}…"],
        ["1", "1", "b"],
        ["2", "1", "c"],
    ]
    assert "ranked among themselves" in text and "a shared place" not in text
    assert [one["tied"] for one in rank_json(page)] == [False, False, False]
    assert [(one["rules"], one["current"]) for one in rank_json(page)] == [(3, True), (1, False), (2, False)]
    told = [(one["rules"], one["current"]) for one in csv.DictReader(io.StringIO(rank_csv(page)))]
    assert told == [("3", "True"), ("1", "False"), ("2", "False")]
    text = shown(rank_renderable(Rank(1, page.tasks, page.rows[:1], older=2), "garden", None))
    assert "2 models graded by earlier tasks" in text and "gridllm leaderboard regrade NAME" in text and "--all" in text
    text = shown(rank_renderable(Rank(0, page.tasks, [], older=2), "garden", None))
    assert "No model has been graded by these tasks yet" in text and "regrade" in text and "Be the first" not in text


@pytest.mark.parametrize("width", [24, 40, 60, 80, 130, None])
def test_a_ranking_fits_the_terminal_and_breaks_no_figure(width: int | None) -> None:
    tasks = {f"task-{number}": Interval(0.625, 0.5, 0.75) for number in range(4)}
    rows = [row("a-model-with-a-rather-long-name", 1, 50.0, tasks=tasks), row("b", 1, 49.0, tasks=tasks)]
    page = Rank(2, dict.fromkeys(tasks, "choice"), rows)
    text = shown(rank_renderable(page, "garden", None, width))
    table = [line for line in text.splitlines() if line.lstrip().startswith(("place", "=1", "task-0"))]
    assert "50.00 ±1.50" in text and "49.00 ±1.50" in text
    assert all(len(line) <= max(width or 200, 38) for line in table)  # 38: place, 16 of the name, the score
    assert ("a-model-with-a-rather-long-name" in text) == (width is None or width >= 60)
    assert ("--wide" in text) == (width is not None and width < 130)
    assert (text.count("62.5%") == 8) == (width is None or width >= 130)  # all tasks or none
    assert text.count("62.5%") in (0, 8)


def test_what_is_next_stands_beneath_a_narrow_table_in_one_line() -> None:
    found = [view("a", "graded"), view("b", "unpaid", fee=10_000), view("c", "queued")]
    text = shown(submissions_renderable(found, 3, "garden", everyone=False, width=80))
    assert any(line.startswith(named("b")[:12]) and next_step(found[1]) in line for line in text.splitlines())
    assert "waits for the next round" in text and "gridllm leaderboard show ID" in text and "--wide" not in text
    whole = shown(submissions_renderable(found, 3, "garden", everyone=False))
    assert len(whole.splitlines()) == 5 and next_step(found[1]) in whole


def test_a_ranking_for_programs() -> None:
    page = rank(row("a", 1, 50.0, license='=HYPERLINK("x")'), row("b", 1, 49.0, tasks={}, cost=1_234_000_000))
    told = json.loads(json.dumps(rank_json(page)))
    assert [one["tied"] for one in told] == [True, True]
    assert told[0]["score"] == {"value": 50.0, "low": 48.5, "high": 51.5}
    first, second = csv.DictReader(io.StringIO(rank_csv(page)))
    assert (first["sums"], first["stories_low"], first["license"]) == ("0.625", "1.2", '\'=HYPERLINK("x")')
    assert (second["sums"], second["credits_per_1000_tokens"], second["tied"]) == ("", "1234", "True")
    assert second["issued"].endswith("Z") and None not in second and second["root"] == named("root of b")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("uploading", "resumes where it was"),
        ("checking", "being checked"),
        ("queued", "next round"),
        ("locked", "round 3"),
        ("graded", f"gridllm leaderboard show {named('m')[:12]}"),
        ("withdrawn", "taken down"),
    ],
)
def test_each_state_says_what_is_next(state: str, says: str) -> None:
    assert says in next_step(view("m", state))


def test_a_fee_that_is_due_comes_with_the_command_that_pays_it() -> None:
    step = next_step(view("m", "unpaid", fee=1_234_500_000))
    assert f"gridllm credit send {peer_of_account(BOARD)} 1234.5 " in step
    assert f'--memo "leaderboard {named("m")[:32]}"' in step


def test_who_waits_anew_since_a_round_was_annulled_is_told_so() -> None:
    step = next_step(view("m", "queued", why="Round 3 was annulled: the keeper is lost."))
    assert step == "Round 3 was annulled: the keeper is lost; waits for the next round"
    assert next_step(view("m", "queued", why="It waits for the next round.")) == "waits for the next round"


def test_what_was_refused_says_why() -> None:
    assert next_step(view("m", "refused", why="A weight is NaN.")).startswith("A weight is NaN; ")


def test_what_no_grader_holds_says_what_it_waits_for() -> None:
    why = "It waits for a grader that can hold 40.0 GB; the largest that asks holds 8.0 GB."
    assert next_step(view("m", "queued", why=why)) == why[3:-1]


def test_submissions_are_listed() -> None:
    found = [view("a", "graded", champion=True), view("b", "refused", why="\x1b[31mA weight is NaN.")]
    text = shown(submissions_renderable(found, 7, "garden", everyone=True))
    assert "graded ★" in text and named("author of a")[:8] in text and "2 of 7" in text and "\x1b" not in text
    assert named("author of a")[:8] not in shown(submissions_renderable(found, 2, "garden", everyone=False))
    assert "gridllm leaderboard submit --help" in shown(submissions_renderable([], 0, "garden", everyone=False))
    told = submissions_json(found)
    assert [one["next"] for one in told] == [next_step(one) for one in found]
