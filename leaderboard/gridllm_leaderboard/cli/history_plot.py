"""Champions' scores over time, drawn with characters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gridllm_leaderboard.messages import Reign

HEIGHT: Final = 12  # lines, without the axis
MARGIN: Final = 8  # characters left of the axis
LEAST_WIDTH: Final = 30

Canvas = list[list[str]]


def plot(found: Sequence[Reign], now: int, width: int) -> list[str]:
    """Lines of text: a step for each champion, from when it won; its interval as a shade.

    Args:
        found: oldest first, one at least.
        now: Unix time; the last reigns until then.
        width: characters, of the whole.
    """
    columns = max(LEAST_WIDTH, width) - MARGIN - 2
    lowest, highest = bounds(found)
    canvas = [[" "] * columns for _ in range(HEIGHT)]
    start, end = found[0].since, max(now, found[-1].since + 1)
    places = [round((one.since - start) / (end - start) * (columns - 1)) for one in found]
    ends = [*places[1:], columns - 1]
    rows = [_row(one.score.value, lowest, highest) for one in found]
    for one, left, right in zip(found, places, ends, strict=True):
        _shade(canvas, left, right, _row(one.score.high, lowest, highest), _row(one.score.low, lowest, highest))
    for index, (left, right) in enumerate(zip(places, ends, strict=True)):
        for column in range(left, right + 1):
            canvas[rows[index]][column] = "━"
        if index:
            _riser(canvas, left, rows[index - 1], rows[index])
    for index, left in enumerate(places):
        canvas[rows[index]][left] = "●"
    _names(canvas, [one.name for one in found], places, rows)
    return [*_with_axis(canvas, lowest, highest), *_times(start, end, columns)]


def bounds(found: Sequence[Reign]) -> tuple[float, float]:
    """The scale's ends: all intervals, and some air."""
    lowest, highest = min(one.score.low for one in found), max(one.score.high for one in found)
    air = max(0.5, (highest - lowest) * 0.08)
    return max(0.0, lowest - air), min(100.0, highest + air)


def _row(score: float, lowest: float, highest: float) -> int:
    share = (score - lowest) / (highest - lowest) if highest > lowest else 0.5
    return HEIGHT - 1 - max(0, min(HEIGHT - 1, round(share * (HEIGHT - 1))))


def _shade(canvas: Canvas, left: int, right: int, top: int, bottom: int) -> None:
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            canvas[row][column] = "░"


def _riser(canvas: Canvas, column: int, before: int, after: int) -> None:
    for row in range(min(before, after), max(before, after) + 1):
        canvas[row][column] = "┃"
    if before != after:
        canvas[before][column] = "┛" if after < before else "┓"


def _names(canvas: Canvas, names: Sequence[str], places: Sequence[int], rows: Sequence[int]) -> None:
    """Each above its step, where there is room; the newest first, for it matters most."""
    taken: set[tuple[int, int]] = set()
    for name, place, step in reversed(list(zip(names, places, rows, strict=True))):
        row = step - 1 if step else step + 1
        column = min(place + 1, len(canvas[row]) - len(name))
        cells = {(row, column + offset) for offset in range(-1, len(name) + 1)}
        if column < 0 or cells & taken or any(canvas[row][column + offset] in "━┃●┛┓" for offset in range(len(name))):
            continue
        taken |= cells
        canvas[row][column : column + len(name)] = list(name)


def _with_axis(canvas: Canvas, lowest: float, highest: float) -> list[str]:
    """Scores on the left, at every third line."""
    lines = []
    for row, cells in enumerate(canvas):
        value = highest - (highest - lowest) * row / (HEIGHT - 1)
        label = f"{value:.1f} ┤" if row % 3 == 0 or row == HEIGHT - 1 else "│"
        lines.append(f"{label:>{MARGIN + 1}}" + "".join(cells).rstrip())
    return lines


def _times(start: int, end: int, columns: int) -> list[str]:
    """The axis of time, with its two ends."""
    shape = "%Y-%m-%d" if end - start > 2 * 86400 else "%m-%d %H:%M"
    first, last = (time.strftime(shape, time.gmtime(when)) for when in (start, end))
    axis = " " * MARGIN + "└" + "─" * columns
    return [axis, " " * (MARGIN + 1) + first + last.rjust(columns - len(first))]
