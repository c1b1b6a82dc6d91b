"""Champions over time: the table, the plot of characters, the pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.cli.history_image import draw
from gridllm_leaderboard.cli.history_plot import HEIGHT, plot
from gridllm_leaderboard.cli.history_view import history_json, history_renderable
from tests.unit.board_pages import DAY, reign
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
    assert history_json(REIGNS)[2]["lead"]["value"] == 12.2


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
