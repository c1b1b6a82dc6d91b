"""What an examination looks like while it goes on: a progress bar on a terminal, a line for each news elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from gridllm.admission.examination.candidacy import Watcher

STAGES: Final = {
    "network": "Measuring the connection: round trip, upload, download, whether others can dial it",
    "memory": "Filling memory, and reading through it",
    "decode": "Computing one session's tokens",
    "batch": "Computing tokens of eight sessions at once",
    "prefill": "Computing a prompt",
}
"""A stage's name on the wire → what is done in it."""


def stage_sentence(name: str) -> str:
    """What is measured now. A name from a newer authority stands for itself."""
    return STAGES.get(name, f"Measuring: {name if name.isprintable() else '?'}")


def queue_sentence(place: int, waiting: int) -> str:
    """Where in the queue."""
    return f"Waiting to be measured: place {place} of {waiting} in the queue"


def make_watcher(console: Console) -> BarWatcher | LineWatcher:
    """The watcher that fits ``console``."""
    return BarWatcher(console) if console.is_terminal else LineWatcher(console)


class LineWatcher:
    """One line for each news."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def stage(self, name: str, done: float) -> None:
        """See ``Watcher``."""
        self._say(stage_sentence(name))

    def queued(self, place: int, waiting: int) -> None:
        """See ``Watcher``."""
        self._say(queue_sentence(place, waiting))

    def note(self, sentence: str) -> None:
        """See ``Watcher``."""
        self._say(sentence)

    def close(self) -> None:
        """Nothing to tidy up."""

    def _say(self, sentence: str) -> None:
        if sentence != self._last:  # a queue's news repeat every few seconds
            self._last = sentence
            self._console.print(sentence, markup=False)


class BarWatcher:
    """A bar over the whole examination, and above it what must not be overlooked."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: tuple[Progress, TaskID] | None = None

    def stage(self, name: str, done: float) -> None:
        """See ``Watcher``."""
        self._show(stage_sentence(name), done)

    def queued(self, place: int, waiting: int) -> None:
        """See ``Watcher``."""
        self._show(queue_sentence(place, waiting), 0.0)

    def note(self, sentence: str) -> None:
        """See ``Watcher``."""
        self._console.print(sentence, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def _show(self, sentence: str, done: float) -> None:
        from rich.markup import escape

        if self._bar is None:
            self._bar = _start_bar(self._console)
        progress, task = self._bar
        progress.update(task, description=escape(sentence), completed=done)


def _start_bar(console: Console) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Drawn rarely: the same processor is being measured.
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
    progress.start()
    return progress, progress.add_task("", total=1.0)


if TYPE_CHECKING:
    _watchers: tuple[type[Watcher], ...] = (LineWatcher, BarWatcher)
