"""How a submission looks while it goes its way: bars on a terminal, a line for each news, an id at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridllm.cli.work import Work
    from gridllm_leaderboard.messages import SubmissionView

SENTENCES = {
    "uploading": "bringing its files",
    "checking": "the leaderboard is checking it",
    "unpaid": "its fee is due",
    "queued": "it waits for the next round",
    "locked": "it is graded now",
    "graded": "it has its place",
    "failed": "no grader could run it",
}


class SubmitView:
    """Tells on stderr how it goes."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.resumed = False
        self.paid_now = 0  # micro-credits

    # submitting.author.Told

    def state(self, view: SubmissionView, resumed: bool) -> None:
        """It stands so now."""
        from gridllm.cli.grid_view import printable

        self.work.rest()
        what = SENTENCES.get(view.state, view.state)
        if resumed:
            self.resumed = True
            self.work.say(f"You submitted this model before, as {printable(view.name)}: {what}.")
        else:
            self.work.say(f"{view.id[:16]}… {what}.")
        if view.state == "checking":
            self.work.tell("The leaderboard is checking it")

    def sent(self, done: int, total: int) -> None:
        """Of the upload."""
        self.work.tell("Uploading", done, total)

    def paid(self, micro: int, now: bool) -> None:
        """The fee; ``now``: by this command."""
        from gridllm.quantities import count_credits

        self.work.rest()
        self.paid_now += micro if now else 0
        self.work.say(f"The fee of {count_credits(micro)} {'is paid' if now else 'was paid before'}.")
        self.work.tell("The leaderboard is looking for the payment")


def submit_json(view: SubmissionView, shown: SubmitView) -> dict[str, Any]:
    """For programs."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(view)
    return {**told, "resumed": shown.resumed, "paid_now": shown.paid_now}
