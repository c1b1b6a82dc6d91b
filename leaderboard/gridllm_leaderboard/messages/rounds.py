"""Rounds, and every document that shows what became of a submission in one."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from gridllm_leaderboard.messages.entering import SubmissionView
from gridllm_leaderboard.messages.parts import MAX_PAGE, PIECE_BYTES, Envelope, Key, Limit, Message, Offset, Text, When

ROUNDS_CALL: Final = "gridllm.leaderboard.rounds"
ANNULLED_CALL: Final = "gridllm.leaderboard.annulled"
DOSSIER_CALL: Final = "gridllm.leaderboard.dossier"
LINES_CALL: Final = "gridllm.leaderboard.lines"
FILE_CALL: Final = "gridllm.leaderboard.file"


class AskRounds(Message, frozen=True):
    """Rounds, newest first."""

    offset: Offset = 0
    limit: Limit = 100


class RoundView(Message, frozen=True):
    """One round."""

    round: int
    state: Literal["locked", "drawn", "judged", "annulled"]
    submissions: list[Key]
    graded: int
    locked: When
    why: Text = ""  # it was annulled, for people


class Rounds(Message, frozen=True):
    """A page."""

    total: int
    rounds: Annotated[list[RoundView], Meta(max_length=MAX_PAGE)]


class AskAnnulled(Message, frozen=True):
    """Rounds that are void, newest first."""

    offset: Offset = 0
    limit: Limit = 100


class AnnulledRound(Message, frozen=True):
    """One round that is void, with all that shows it."""

    rules: Envelope  # that it was locked under
    lock: Envelope
    draw: Envelope | None  # None: it was annulled before its items were drawn
    annulment: Envelope
    graded: int  # of its submissions, with one grade at least


class Annulled(Message, frozen=True):
    """A page."""

    total: int
    rounds: Annotated[list[AnnulledRound], Meta(max_length=MAX_PAGE)]


class AskDossier(Message, frozen=True):
    """Every document about one submission; ``id`` may be shortened to where it is unique (8 digits at least)."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8,64}$")]
    round: Annotated[int, Meta(ge=0, lt=2**31)] = 0  # of which the documents are asked; 0: of its last


class Dossier(Message, frozen=True):
    """All that is needed to check one submission's grading in one round; envelopes in the order in which they came."""

    view: SubmissionView
    submission: Envelope
    rules: Envelope | None  # the notice that held in its round
    lock: Envelope | None
    draw: Envelope | None
    grades: Annotated[list[Envelope], Meta(max_length=64)]
    champion_grades: Annotated[list[Envelope], Meta(max_length=64)]  # of the champion it met, on the same items
    verdict: Envelope | None
    withdrawal: Envelope | None
    overlaps: dict[Annotated[str, Meta(max_length=40)], float]  # contamination report (docs/leaderboard.md), by task
    failures: Annotated[list[Envelope], Meta(max_length=128)] = field(
        default_factory=list
    )  # graders who could not run it, or the champion
    annulment: Envelope | None = None  # in place of a verdict


class AskLines(Message, frozen=True):
    """A piece of a list of items or results (results.py)."""

    root: Key
    offset: Offset = 0


class AskFile(Message, frozen=True):
    """A piece of a file of the rules' tasks that is public."""

    task: Annotated[str, Meta(max_length=40)]
    name: Literal["task.yaml", "practice.jsonl"]
    offset: Offset = 0


class Piece(Message, frozen=True):
    """Up to ``PIECE_BYTES`` of it."""

    total: Offset
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES)]
