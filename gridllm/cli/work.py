"""What a command is doing, on stderr: a spinner or a bar on a terminal, one line for each step anywhere else.

A command that says nothing for ten seconds looks like one that hangs; a log file of one that animates is unreadable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Unit = Literal["bytes", "things"]


@contextmanager
def step(sentence: str) -> Iterator[None]:
    """One thing that takes a while, for as long as the block lasts. ``sentence``: what is done, without a full stop."""
    from rich.text import Text

    from gridllm.cli.show import stderr

    console, text = stderr(), Text(f"{sentence}…")
    if not console.is_terminal:
        console.print(text)
        yield
        return
    with console.status(text):
        yield


class Work:
    """Several things, one after the other, of some of which is known how far they are."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        """``bar``: None where no terminal is."""
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None
        self._what = ""

    def tell(self, what: str, done: int = 0, total: int | None = None) -> None:
        """``what`` is under way, and nothing else any more; without ``total`` nobody knows how long it takes."""
        from rich.text import Text

        from gridllm.cli.grid_view import printable

        if what != self._what:
            self.rest()
            self._what = what
            if self._bar is None:
                self._console.print(Text(f"{printable(what)}…"))
            else:
                self._task = self._bar.add_task(printable(what), total=total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """``what`` is under way for as long as the block lasts."""
        self.tell(what)
        try:
            yield
        finally:
            self.rest()

    def rest(self) -> None:
        """Nothing is under way."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
        self._task, self._what = None, ""

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._console.print(sentence, markup=False)


@contextmanager
def work(unit: Unit = "things") -> Iterator[Work]:
    """For as long as the block lasts; ``unit``: of what is counted."""
    from rich.progress import Progress

    from gridllm.cli.show import stderr

    console = stderr()
    if not console.is_terminal:
        yield Work(console, None)
        return
    with Progress(*_columns(unit), console=console, transient=True) as bar:
        yield Work(console, bar)


def _columns(unit: Unit) -> list[Any]:
    """A spinner and what is done; the rest only of what has an end."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Known(ProgressColumn):
        """A column that is empty while the total is unknown."""

        def __init__(self, column: ProgressColumn) -> None:
            self._column = column
            super().__init__()

        def render(self, task: Task) -> Any:
            """The column, or nothing."""
            return Text() if task.total is None else self._column.render(task)

    counts = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    known = [Known(column) for column in (BarColumn(), *counts, TimeRemainingColumn())]
    return [SpinnerColumn(), TextColumn("{task.description}", markup=False), *known]
