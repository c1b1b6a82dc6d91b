"""What is told of submissions and rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from gridllm_leaderboard.messages import Interval as Told
from gridllm_leaderboard.messages import Reign, RoundView, SubmissionView

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.messages import State
    from gridllm_leaderboard.records import Entry, ReignRow, Round

NEXT: Final[Mapping[State, str]] = {
    "uploading": "Its files are missing; the same gridllm leaderboard submit resumes where it was.",
    "checking": "Its files are here and being checked.",
    "unpaid": "The fee is due.",
    "queued": "It waits for the next round.",
    "locked": "It is graded now.",
    "graded": "It has its place.",
    "failed": "No grader could run it.",
    "refused": "It was not taken.",
    "withdrawn": "Its author withdrew it.",
}


def submission_view(entry: Entry, rules: Rules, champion: str | None, held_up: str = "") -> SubmissionView:
    """One submission as it stands. ``held_up``: why no round can begin now; empty: one can."""
    said, why = entry.submission, entry.why or NEXT[entry.state]
    due = rules.fee if not entry.paid and entry.state in ("uploading", "checking", "unpaid") else 0
    return SubmissionView(
        id=entry.id,
        account=said.account,
        root=said.root,
        name=said.name,
        message=said.message,
        license=said.license,
        base=said.base,
        serve=said.serve,
        parameters=said.parameters,
        size=said.size,
        issued=said.issued,
        state=entry.state,
        why=(f"{why.rstrip('.')}. {held_up}" if held_up and entry.state == "queued" else why)[:1024],
        fee=due,
        pay_to=rules.account,
        round=entry.round,
        champion=entry.id == champion,
    )


def round_view(round_: Round, graded: int) -> RoundView:
    """One round."""
    return RoundView(
        round=round_.number,
        state=_state(round_),
        submissions=list(round_.lock.submissions),
        graded=graded,
        locked=round_.lock.issued,
        why="" if round_.annulment is None else round_.annulment.reason,
    )


def _state(round_: Round) -> Literal["locked", "drawn", "judged", "annulled"]:
    if round_.annulment is not None:
        return "annulled"
    return "judged" if round_.verdict_raw is not None else "drawn" if round_.draw_raw is not None else "locked"


def reign_view(row: ReignRow, entry: Entry) -> Reign:
    """One champion."""
    return Reign(
        submission=row.submission,
        name=entry.submission.name,
        account=entry.submission.account,
        root=entry.submission.root,
        since=row.since,
        round=row.round,
        score=Told(row.score, row.low, row.high),
        lead=None if row.lead is None else Told(*row.lead),
        bounty=row.bounty,
    )
