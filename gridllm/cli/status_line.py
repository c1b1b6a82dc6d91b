"""How a command that serves stands, in one line: kept up to date on a terminal; elsewhere a line when it changes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

STOPS = "(Ctrl-C stops)"


class StatusLine:
    """One line for as long as the command serves. Whoever prints JSON uses none."""

    def __init__(self, console: Console, name: str) -> None:
        """``name``: the grid's, with which the line begins."""
        self._console = console
        self._name = name
        self._status: Status | None = None  # None: no terminal, or not begun
        self._last = ""
        self._since = time.monotonic()

    def begin(self, sentence: str) -> None:
        """Show ``sentence`` on a terminal until there is something to say."""
        from rich.text import Text

        if sys.stdout.isatty():
            self._status = self._console.status(Text(f"{sentence}  {STOPS}"))
            self._status.start()

    def show(self, sentence: str) -> None:
        """How things stand now."""
        from rich.text import Text

        if self._status is not None:
            clock = _clock(time.monotonic() - self._since)
            self._status.update(Text(f"{self._name} · {sentence} · up {clock}  {STOPS}"))  # Text: strangers' names, too
        elif sentence != self._last:
            self._console.print(f"{self._name} · {sentence}", markup=False)
        self._last = sentence

    def end(self) -> None:
        """Give the terminal back."""
        if self._status is not None:
            self._status.stop()


def _clock(seconds: float) -> str:
    """``26:05:09``: hours without end, since days of a first peer are looked at side by side."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
