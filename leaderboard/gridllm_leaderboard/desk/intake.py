"""Whether a submission is taken. Pure: facts in, a refusal or nothing out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gridllm.charter.contest import Rules
from gridllm.errors import NotAccepted
from gridllm.quantities import count_credits, count_things, spell_duration
from gridllm_leaderboard.records import Entry
from gridllm_leaderboard.statements import Submission

SKEW_S: Final = 3600  # that an author's clock may be ahead
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Held:
    """What the store holds that stands in a submission's way."""

    today: int  # submissions of the account in the last 24 hours
    root: Entry | None  # the same model
    weights: Entry | None  # the same tensors
    name: Entry | None  # the same name, in whatever case
    begun: int = 0  # submissions of the account whose files, check or fee are awaited
    next_s: int = 0  # until one of those of the last 24 hours is older; counts where there are as many as may be


def check_words(submission: Submission, rules: Rules, taken_names: Collection[str], now_s: float) -> None:
    """What can be told from the submission alone.

    Args:
        taken_names: names that the charter's models have.

    Raises:
        NotAccepted: says what is wrong.
    """
    if submission.account == rules.account:
        raise NotAccepted("The leaderboard's own account cannot submit models; use an account of yours.")
    if submission.issued > now_s + SKEW_S:
        raise NotAccepted("The submission was signed in the future by this machine's clock; set yours.")
    if submission.size > rules.largest_bytes:
        raise NotAccepted(
            f"The model's {submission.size / 1e6:,.1f} MB of weights exceed the {rules.largest_bytes / 1e6:,.1f} MB "
            "that this leaderboard takes."
        )
    if not submission.license.strip():
        raise NotAccepted("The submission names no licence; say under which others may use the model, with --license.")
    if submission.name.casefold() in {name.casefold() for name in taken_names}:
        raise NotAccepted(f"A model of this grid is called {submission.name!r} already; choose another --name.")
    others = [grader for grader in rules.graders if grader != submission.account]
    if len(others) < rules.quorum:
        raise NotAccepted(
            f"Nobody grades a model of their own, and without you there are {len(others)} graders of the "
            f"{rules.quorum} that a submission needs; ask the maintainers to add some."
        )


def check_held(submission: Submission, rules: Rules, held: Held) -> None:
    """What others, or the author, brought before. Raises NotAccepted."""
    if held.root is not None:
        raise NotAccepted(f"This model was submitted before, as {_called(held.root, submission)}.{_taken(held.root)}")
    if held.weights is not None:
        raise NotAccepted(
            f"These weights were submitted before, as {_called(held.weights, submission)}; another name, config or "
            f"sharding does not make another model.{_taken(held.weights)}"
        )
    if held.name is not None:
        raise NotAccepted(f"A submission is called {held.name.submission.name!r} already; choose another --name.")
    if held.today >= rules.daily:
        raise NotAccepted(
            f"An account may submit {count_things(rules.daily, 'model')} in 24 hours, and you did; the "
            f"next one in {_rounded(held.next_s)}."
        )
    if held.begun >= rules.daily:  # each has room on the disk promised to it
        raise NotAccepted(
            f"Files, checks or fees of {count_things(held.begun, 'submission')} of yours are outstanding; send "
            "them, or withdraw one, before the next."
        )


def check_contribution(contribution: int, needed: int) -> None:
    """Whether the account gave enough; micro-credits. Raises NotAccepted."""
    if contribution < needed:
        raise NotAccepted(
            f"Submitting needs a contribution of {count_credits(needed)}, earned by serving and not spent or sent; "
            f"yours is {count_credits(contribution)}. Earn some with: gridllm serve"
        )


def _called(entry: Entry, submission: Submission) -> str:
    said = entry.submission
    whose = "yours" if said.account == submission.account else f"of {said.account[:16]}…"
    return f"{said.name!r} ({entry.id[:16]}…, {whose}, {entry.state})"


def _taken(entry: Entry) -> str:
    """What the author of a model may wonder that is not on the leaderboard any more."""
    return " Weights that were withdrawn stay taken: train it further." if entry.state == "withdrawn" else ""


def _rounded(seconds: int) -> str:
    """Never too short: in whole hours, or whole minutes of the last one."""
    unit = 3600 if seconds > 3600 else 60
    return spell_duration(max(1, -(-seconds // unit)) * unit)
