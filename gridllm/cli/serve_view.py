"""What ``gridllm serve`` shows: a progress bar and a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gridllm.cli.examination_view import BarWatcher, queue_sentence, stage_sentence
from gridllm.cli.grid_view import age_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.status import Status

    from gridllm.node.report import Pulse, Report
    from gridllm.wire.record import NodeRecord


Names = Callable[[], Mapping[str, str]]
"""What models are called, by root, as far as is known at the moment."""


def make_report(model: str, names: Names = dict) -> Report:
    """The report that fits stdout. ``model``: what one is called that ``names`` does not have."""
    from gridllm.cli.show import stdout

    return LiveReport(stdout(), model, names) if sys.stdout.isatty() else PlainReport(model, names)


def serving_line(record: NodeRecord, model: str) -> str:
    """One line that people read and programs wait for."""
    return (
        f"serving blocks {record.start}:{record.end} of {model} as {record.peer} "
        f"({record.dtype}, {record.blocks_per_s:.0f} blocks/s, cache for {record.total_tokens} tokens)"
    )


def pulse_line(pulse: Pulse) -> str:
    """The node's life in a line."""
    used = 1 - pulse.free_tokens / pulse.total_tokens if pulse.total_tokens else 1.0
    batch = f", {pulse.mean_batch:.1f} to a pass" if pulse.tokens else ""
    sessions = "1 session" if pulse.sessions == 1 else f"{pulse.sessions} sessions"
    return (
        f"{sessions} · {pulse.tokens_per_s:.0f} tokens/s ({pulse.tokens} so far{batch}) · cache {used:.0%} used · "
        f"{_earnings(pulse)}up {age_of(pulse.uptime_s)}"
    )


def _earnings(pulse: Pulse) -> str:
    if pulse.earned is None:
        return ""
    from gridllm.quantities import spell_earnings

    return f"{spell_earnings(pulse.earned, pulse.waiting)} · "


class PlainReport:
    """One line for each event, flushed; no pulse."""

    def __init__(self, model: str, names: Names = dict) -> None:
        self._model = model
        self._names = names
        self._last = ""

    def phase(self, sentence: str) -> None:
        """See ``Report``."""
        self.note(sentence)

    def loading(self, done: int, total: int) -> None:
        """See ``Report``; silent."""

    def stage(self, name: str, done: float) -> None:
        """See ``Report``."""
        self._once(stage_sentence(name))

    def queued(self, place: int, waiting: int) -> None:
        """See ``Report``."""
        self._once(queue_sentence(place, waiting))

    def serving(self, record: NodeRecord) -> None:
        """See ``Report``."""
        self.note(serving_line(record, self._names().get(record.model, self._model)))

    def pulse(self, pulse: Pulse) -> None:
        """See ``Report``; silent."""

    def note(self, sentence: str) -> None:
        """See ``Report``."""
        sys.stdout.write(sentence + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to tidy up."""

    def _once(self, sentence: str) -> None:
        """What an authority repeats every few seconds makes one line."""
        if sentence != self._last:
            self._last = sentence
            self.note(sentence)


class LiveReport:
    """A terminal that shows what the node does now, and keeps what matters."""

    def __init__(self, console: Console, model: str, names: Names = dict) -> None:
        self._console = console
        self._model = model
        self._names = names
        self._bar: tuple[Progress, TaskID] | None = None
        self._status: Status | None = None
        self._examination = BarWatcher(console)

    def phase(self, sentence: str) -> None:
        """See ``Report``."""
        self._end_bar()
        self._line(sentence + "…")

    def loading(self, done: int, total: int) -> None:
        """See ``Report``; rich takes updates from any thread."""
        if self._bar is None:
            self._end_line()
            self._bar = _start_bar(self._console, total)
        progress, task = self._bar
        progress.update(task, completed=done)

    def stage(self, name: str, done: float) -> None:
        """See ``Report``."""
        self._end_line()
        self._examination.stage(name, done)

    def queued(self, place: int, waiting: int) -> None:
        """See ``Report``."""
        self._end_line()
        self._examination.queued(place, waiting)

    def serving(self, record: NodeRecord) -> None:
        """See ``Report``."""
        self._end_bar()
        self._end_line()
        self._console.print(
            serving_line(record, self._names().get(record.model, self._model)), style="bold green", markup=False
        )
        self._line("waiting for sessions  (Ctrl-C drains and leaves)")

    def pulse(self, pulse: Pulse) -> None:
        """See ``Report``."""
        self._line(pulse_line(pulse) + "  (Ctrl-C drains and leaves)")

    def note(self, sentence: str) -> None:
        """See ``Report``."""
        self._console.print(sentence, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._end_bar()
        self._end_line()

    def _line(self, text: str) -> None:
        from rich.text import Text

        if self._status is None:
            self._status = self._console.status(Text(text), refresh_per_second=2)  # a spinner must not cost tokens
            self._status.start()
        else:
            self._status.update(Text(text))

    def _end_line(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _end_bar(self) -> None:
        self._examination.close()
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


def _start_bar(console: Console, total: int) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("Loading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    progress.start()
    return progress, progress.add_task("", total=total)
