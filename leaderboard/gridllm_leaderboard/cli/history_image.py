"""Champions' scores over time as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gridllm.errors import LeaderboardError, UsageError

if TYPE_CHECKING:
    from gridllm_leaderboard.messages import Reign

LINE: Final = "#1f6feb"
INK: Final = "#24292f"
FAINT: Final = "#d0d7de"
DPI: Final = 160


def draw(found: Sequence[Reign], grid: str, now: int, path: Path, kind: Literal["png", "svg"] | str) -> None:
    """Write the picture.

    Raises:
        UsageError: matplotlib is not installed.
        LeaderboardError: there is no champion yet, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Drawing needs matplotlib: pip install 'gridllm[grading]'.") from error
    if not found:
        raise LeaderboardError("There is nothing to draw yet: no champion.")
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    _steps(axes, found, now)
    _dress(axes, grid)
    try:
        # without a date, the same champions make the same file
        figure.savefig(path, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else {"Software": None})
    except OSError as error:
        raise LeaderboardError(f"{path} cannot be written: {error.strerror}.") from error


def _steps(axes: Any, found: Sequence[Reign], now: int) -> None:
    ends = [*(one.since for one in found[1:]), max(now, found[-1].since + 1)]
    for one, end in zip(found, ends, strict=True):
        span = [_when(one.since), _when(end)]
        axes.fill_between(span, one.score.low, one.score.high, color=LINE, alpha=0.15, linewidth=0)
        axes.plot(span, [one.score.value] * 2, color=LINE, linewidth=2.2, solid_capstyle="butt")
    for before, after in pairwise(found):
        axes.plot([_when(after.since)] * 2, [before.score.value, after.score.value], color=LINE, linewidth=1, alpha=0.6)
    for one in found:
        axes.plot([_when(one.since)], [one.score.value], "o", color=LINE, markersize=6)
        lead = "" if one.lead is None else f"  {one.lead.value:+.2f}"
        axes.annotate(
            f"{one.name}{lead}".replace("$", r"\$"),
            (_when(one.since), one.score.high),
            xytext=(4, 6),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )


def _dress(axes: Any, grid: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_title(f"Champions of {grid}".replace("$", r"\$"), loc="left", fontsize=13, fontweight="bold", color=INK)
    axes.set_ylabel("score, with its 95% interval", color=INK)
    axes.margins(x=0.02, y=0.22)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _when(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
