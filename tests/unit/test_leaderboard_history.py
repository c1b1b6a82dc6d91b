"""Champions over time: the table, the plot of characters, the pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.cli.history_image import draw
from gridllm_leaderboard.cli.history_plot import HEIGHT, plot
from gridllm_leaderboard.cli.history_view import history_json, history_renderable
from gridllm_leaderboard.statements import Annulment, Lock
from gridllm_leaderboard.verifying.annulled import VoidRound
from tests.unit.board_pages import DAY, reign
from tests.unit.graded_rounds import named
from tests.unit.test_leaderboard_views import shown

REIGNS = [reign("tiny", 0, 21.0), reign("small", 9, 34.5, 13.1), reign("medium", 30, 47.0, 12.2)]
NOW = DAY + 86400 * 40


def test_each_champion_is_a_step_that_starts_when_it_won() -> None:
    lines = plot(REIGNS, NOW, 90)
    assert len(lines) == HEIGHT + 2
    steps = [line.index("●") for line in lines if "●" in line]
    assert steps == sorted(steps, reverse=True)  # the best is on top, and came last
    assert steps[-1] == 9 and steps[0] == pytest.approx(9 + 79 * 30 / 40, abs=1)
    assert all(any(one.name in line for line in lines) for one in REIGNS)
    assert max(map(len, lines)) <= 90
    assert "━" in lines[0] + lines[1] + lines[2] and "░" in "".join(lines)


@pytest.mark.parametrize("width", [1, 40, 100])
def test_a_plot_of_any_history_is_drawn(width: int) -> None:
    crowded = [reign(f"a-model-with-a-long-name-{number}", 0, 50.0) for number in range(40)]
    for found in (REIGNS[:1], crowded, [reign("perfect", 0, 100.0), reign("zero", 1, 0.0)]):
        for now in (found[-1].since, NOW, 0):
            assert len(plot(found, now, width)) == HEIGHT + 2


def test_the_table_says_by_how_much_each_won() -> None:
    text = shown(history_renderable(REIGNS, "garden", NOW, 90))
    assert "medium ★" in text and "+12.20 ±6.10" in text and "47.00 ±1.00" in text and "21 d" in text
    assert text.index("medium ★") < text.index("34.50")
    assert "None yet" in shown(history_renderable([], "garden", NOW, 90))
    assert history_json(REIGNS, [])["reigns"][2]["lead"]["value"] == 12.2


def void(number: int, after_s: int, *, drawn: bool = False, graded: int = 0) -> VoidRound:
    """A round that was annulled."""
    lock = Lock(
        grid="a1" * 32, round=number, rules=named("rules"), submissions=(named("small"),), champion=None,
        keeper=named("keeper"), size=1, issued=DAY,
    )  # fmt: skip
    said = Annulment(
        grid="a1" * 32, round=number, lock=named("lock"), reason="the keeper\x1b is lost", issued=DAY + after_s
    )
    return VoidRound(lock, said, early=after_s < 86400, drawn=drawn, graded=graded)


@pytest.mark.parametrize("width", [None, 60, 200])
def test_rounds_that_came_to_nothing_are_listed_with_their_reasons(width: int | None) -> None:
    found = [void(9, 7200, drawn=True, graded=2), void(8, 7200, drawn=True), void(3, 7 * 86400)]
    for reigns in (REIGNS, []):
        text = shown(history_renderable(reigns, "garden", NOW, width, void=found))
        assert "Rounds annulled  3" in text and "\x1b" not in text and text.count("the keeper") == 3
        if width != 60:
            assert "2 h" in text and "7 d" in text and "its lock" in text
            assert "grades of 2 models" in text and "items drawn" in text
    assert "annulled" not in shown(history_renderable(REIGNS, "garden", NOW, width))
    told = history_json([], found)["annulled"]
    assert [(one["round"], one["before_patience"], one["drawn"]) for one in told] == [
        (9, True, True), (8, True, True), (3, False, False),
    ]  # fmt: skip
    assert told[0]["annulled"] - told[0]["locked"] == 7200 and told[0]["submissions"] == [named("small")]


@pytest.mark.parametrize("width", [50, 60, 80])
def test_a_narrow_terminal_gets_whole_columns(width: int) -> None:
    text = shown(history_renderable(REIGNS, "garden", NOW, width))
    rows = [line.rstrip() for line in text.splitlines() if "±" in line]
    assert len(rows) == 4 and max(map(len, rows)) <= width and "+12.20 ±6.10" in text and "--wide" in text
    assert "bounty" in shown(history_renderable(REIGNS, "garden", NOW, width, wide=True)).split("\n\n")[-1]


def test_pictures_are_written(tmp_path: Path) -> None:
    draw(REIGNS, "garden $x$", NOW, tmp_path / "a.png", "png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    draw(REIGNS, "garden", NOW, tmp_path / "a.svg", "svg")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")  # noqa: S314  # our own file
    with pytest.raises(LeaderboardError, match="no champion"):
        draw([], "garden", NOW, tmp_path / "b.png", "png")
    with pytest.raises(LeaderboardError, match="cannot be written"):
        draw(REIGNS, "garden", NOW, tmp_path / "none" / "b.png", "png")
