"""What authors say: submissions enter, are taken down, and are graded again."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from gridllm_leaderboard.messages.parts import (
    MAX_PAGE,
    Amount,
    Envelope,
    Key,
    Limit,
    Message,
    Offset,
    State,
    Text,
    When,
)

ENTER_CALL: Final = "gridllm.leaderboard.enter"
WITHDRAW_CALL: Final = "gridllm.leaderboard.withdraw"
REGRADE_CALL: Final = "gridllm.leaderboard.regrade"
SUBMISSIONS_CALL: Final = "gridllm.leaderboard.submissions"
UPLOAD_STREAM: Final = "gridllm.leaderboard.upload"


class Enter(Message, frozen=True):
    """Take this submission. Saying it again does no harm: an upload resumes where it was."""

    submission: Envelope


class Withdraw(Message, frozen=True):
    """Take it down."""

    withdrawal: Envelope


class Regrade(Message, frozen=True):
    """Grade it once more, by the tasks that hold now."""

    delegation: Annotated[bytes, Meta(max_length=8192)]  # ledger.statements.Delegation of the author to this peer
    submission: Key


class SubmissionView(Message, frozen=True):
    """One submission as it stands."""

    id: Key
    account: Key
    root: Key
    name: Annotated[str, Meta(max_length=64)]
    message: Text
    license: Annotated[str, Meta(max_length=64)]
    base: Key | None
    serve: bool
    parameters: int
    size: int  # bytes of weights
    issued: When
    state: State
    why: Text  # of the state, for people: what was wrong, or what is to be done next
    fee: Amount  # still due
    pay_to: Key  # the leaderboard's account
    round: int  # that it is or was graded in last; 0: none
    champion: bool


class AskSubmissions(Message, frozen=True):
    """Newest first."""

    account: Key | None = None  # of this author only
    offset: Offset = 0
    limit: Limit = 100


class Submissions(Message, frozen=True):
    """A page."""

    total: int
    submissions: Annotated[list[SubmissionView], Meta(max_length=MAX_PAGE)]
