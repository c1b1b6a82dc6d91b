"""Tables that fit a terminal: whole columns are left out, and no figure is ever broken over two lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

GAP: Final = 2  # blanks between two columns
LEAST_WORDS: Final = 20  # columns that words are given beside their names, however narrow the terminal


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, top to bottom."""

    title: str  # over several lines where it has line breaks
    cells: Sequence[str | Text]  # a str is plain text: strangers' words are not read as rich's markup
    turn: int = 0  # 0: always there; others while there is room, 1 first; those of one turn together or not at all
    right: bool = False  # aligned so
    style: str = ""
    least: int = 0  # cells that it may be cut to where even those of turn 0 have no room; 0: never cut

    @property
    def width(self) -> int:
        """Terminal cells."""
        from rich.cells import cell_len

        return max(map(cell_len, [*self.title.split("\n"), *map(str, self.cells)]))


def fitting(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that a terminal has room for, in their order.

    Args:
        width: cells of the terminal; None: there is room for all.
    """
    if width is None:
        return list(columns)
    chosen = {at for at, column in enumerate(columns) if not column.turn}
    room = width + GAP - sum(columns[at].width + GAP for at in chosen)
    for turn in sorted({column.turn for column in columns} - {0}):
        group = [at for at, column in enumerate(columns) if column.turn == turn]
        needed = sum(columns[at].width + GAP for at in group)
        if needed <= room:
            chosen.update(group)
            room -= needed
    return [_cut(columns[at], room) for at in sorted(chosen)]


def lacking(columns: Sequence[Column], shown: Sequence[Column]) -> list[str]:
    """Titles of what was left out."""
    titles = {column.title for column in shown}
    return [column.title.replace("\n", ", ") for column in columns if column.title not in titles]


def table_of(columns: Sequence[Column]) -> Table:
    """As wide as its cells; nothing in it is wrapped."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.title, no_wrap=True, justify=justify, style=column.style)  # type: ignore[arg-type]
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    return table


def wrapped(line: str, width: int) -> Iterator[str]:
    """Words of ``line`` in lines of ``width`` cells; a command to be copied, ``gridllm …``, is never broken."""
    from rich.cells import cell_len

    parts = [part for part in re.split(r"(?:(?:^|(?<= ))(gridllm .*)$)| ", line) if part]
    held = ""
    for part in parts:
        joined = f"{held} {part}" if held else part
        if held and cell_len(joined) > max(width, LEAST_WORDS):
            yield held
            held = part
        else:
            held = joined
    yield held


def _cut(column: Column, room: int) -> Column:
    """``room``: cells that are left; less than 0 where there are too few."""
    from rich.text import Text

    if room >= 0 or not column.least:
        return column
    most = max(column.least, column.width + room)
    cells = [Text(cell) if isinstance(cell, str) else cell.copy() for cell in column.cells]
    for cell in cells:
        cell.truncate(most, overflow="ellipsis")
    return replace(column, cells=cells)
