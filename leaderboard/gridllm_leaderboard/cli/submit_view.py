"""How a submission looks while it goes its way: bars on a terminal, a line for each news, an id at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gridllm_leaderboard.messages import SubmissionView

SENTENCES = {
    "uploading": "bringing its files",
    "checking": "the leaderboard looks at it",
    "unpaid": "its fee is due",
    "queued": "it waits for the next round",
    "locked": "it is graded now",
    "graded": "it has its place",
    "failed": "no grader could run it",
}


class SubmitView:
    """Tells on stderr how it goes."""

    def __init__(self, bar: Progress) -> None:
        self.resumed = False
        self.paid_now = 0  # micro-credits
        self._bar = bar
        self._task: TaskID | None = None
        self._what = ""

    def work(self, what: str, done: int = 0, total: int | None = None) -> None:
        """Something is under way; without ``total`` nobody knows how long it takes."""
        if what != self._what:
            self.rest()
            self._what, self._task = what, self._bar.add_task(what, total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def rest(self) -> None:
        """Nothing is."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task, self._what = None, ""

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._bar.console.print(sentence, markup=False)

    # submitting.author.Told

    def state(self, view: SubmissionView, resumed: bool) -> None:
        """It stands so now."""
        from gridllm.cli.grid_view import printable

        self.rest()
        what = SENTENCES.get(view.state, view.state)
        if resumed:
            self.resumed = True
            self.say(f"You submitted this model before, as {printable(view.name)}: {what}.")
        else:
            self.say(f"{view.id[:16]}… {what}.")
        if view.state == "checking":
            self.work("The leaderboard looks at it")

    def sent(self, done: int, total: int) -> None:
        """Of the upload."""
        self.work("Uploading", done, total)

    def paid(self, micro: int, now: bool) -> None:
        """The fee; ``now``: by this command."""
        from gridllm.quantities import count_credits

        self.rest()
        self.paid_now += micro if now else 0
        self.say(f"The fee of {count_credits(micro)} {'is paid' if now else 'was paid before'}.")
        self.work("The leaderboard looks for the payment")


@contextlib.contextmanager
def submit_view() -> Iterator[SubmitView]:
    """Bars for as long as the block lasts; none where no terminal is."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from gridllm.cli.show import stderr

    console = stderr()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield SubmitView(bar)


def submit_json(view: SubmissionView, shown: SubmitView) -> dict[str, Any]:
    """For programs."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(view)
    return {**told, "resumed": shown.resumed, "paid_now": shown.paid_now}
