"""What crosses between the leaderboard and everyone else: unary calls and one stream, msgpack, strict.

| who | asks | answer |
|---|---|---|
| author | ``Enter``: a signed submission | ``SubmissionView``: what is to be done next |
| author | the stream ``gridllm.leaderboard.upload`` | what is lacking, then pieces (upload/wire.py) |
| author | ``Withdraw`` | ``SubmissionView`` |
| author | ``Regrade`` | ``SubmissionView``: it waits for a round again |
| anyone | ``AskSubmissions``, ``AskRank``, ``AskHistory``, ``AskRounds``, ``AskAnnulled`` | listings, a page each |
| anyone | ``AskDossier`` | every signed document about one submission |
| anyone | ``AskLines`` | items or results, by their Merkle root, a piece each |
| anyone | ``AskFile`` | a task's public files, a piece each |
| grader | ``AskWork`` | ``Work``: a round to be graded |
| grader | ``PutLines``, ``PutGrade`` | ``Taken`` |

Refusals: NotAccepted (said why in one sentence), TooSoon, Full, NotHeld, Malformed.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from gridllm.errors import WireError
from gridllm.wire.strict import UNPARSABLE

ENTER_CALL: Final = "gridllm.leaderboard.enter"
WITHDRAW_CALL: Final = "gridllm.leaderboard.withdraw"
REGRADE_CALL: Final = "gridllm.leaderboard.regrade"
SUBMISSIONS_CALL: Final = "gridllm.leaderboard.submissions"
RANK_CALL: Final = "gridllm.leaderboard.rank"
HISTORY_CALL: Final = "gridllm.leaderboard.history"
ROUNDS_CALL: Final = "gridllm.leaderboard.rounds"
ANNULLED_CALL: Final = "gridllm.leaderboard.annulled"
DOSSIER_CALL: Final = "gridllm.leaderboard.dossier"
LINES_CALL: Final = "gridllm.leaderboard.lines"
FILE_CALL: Final = "gridllm.leaderboard.file"
WORK_CALL: Final = "gridllm.leaderboard.work"
PUT_LINES_CALL: Final = "gridllm.leaderboard.put_lines"
PUT_GRADE_CALL: Final = "gridllm.leaderboard.put_grade"
UPLOAD_STREAM: Final = "gridllm.leaderboard.upload"

MAX_PAGE: Final = 1000
PIECE_BYTES: Final = 512 * 1024

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Envelope = Annotated[bytes, Meta(max_length=64 * 1024)]
Amount = Annotated[int, Meta(ge=0, lt=2**62)]  # micro-credits
Text = Annotated[str, Meta(max_length=1024)]
When = Annotated[int, Meta(ge=0, le=10**11)]  # Unix time, seconds
Offset = Annotated[int, Meta(ge=0, lt=2**40)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]

State = Literal["uploading", "checking", "unpaid", "queued", "locked", "graded", "failed", "refused", "withdrawn"]
"""uploading: files are lacking; checking: they are looked at; unpaid: the fee is due; queued: waits for a round;
locked: is graded now; graded: has a place; failed: no grader could run it; refused: the check found what is not taken;
withdrawn: taken down."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all have in common."""


class Enter(Message, frozen=True):
    """Take this submission. Saying it again does no harm: an upload goes on where it was."""

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


class AskRank(Message, frozen=True):
    """The ranking by the tasks that hold now, best first."""

    task: Annotated[str, Meta(max_length=40)] | None = None  # by this task alone
    everyone: bool = False  # withdrawn ones, too; and behind all others those graded by other tasks, ranked apart
    offset: Offset = 0
    limit: Limit = 50


class Interval(Message, frozen=True):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


class RankRow(Message, frozen=True):
    """One model's place."""

    place: int  # 1: best of its yardstick; those that noise does not tell from the first of a group share its place
    submission: Key
    name: Annotated[str, Meta(max_length=64)]
    account: Key
    root: Key
    parameters: int
    license: Annotated[str, Meta(max_length=64)]
    score: Interval  # 0 to 100
    tasks: dict[Annotated[str, Meta(max_length=40)], Interval]  # bits per byte, or share that is right (0 to 1)
    cost: Amount  # micro-credits for 1,000 tokens of decoding through all blocks
    issued: When
    round: int
    state: State
    champion: bool
    serve: bool
    rules: int = 0  # serial of the first rules with the tasks and weights that it was graded by: its yardstick
    current: bool = True  # whether these hold now


class Rank(Message, frozen=True):
    """A page of the ranking."""

    total: int
    tasks: dict[Annotated[str, Meta(max_length=40)], Literal["text", "choice"]]  # the columns
    rows: Annotated[list[RankRow], Meta(max_length=MAX_PAGE)]
    older: int = 0  # models that other tasks graded, and that are no part of ``total``
    rules: int = 0  # of the yardstick that holds now, as in ``RankRow``


class AskHistory(Message, frozen=True):
    """Champions over time, oldest first."""

    offset: Offset = 0
    limit: Limit = MAX_PAGE


class Reign(Message, frozen=True):
    """One champion."""

    submission: Key
    name: Annotated[str, Meta(max_length=64)]
    account: Key
    root: Key
    since: When
    round: int
    score: Interval  # in the round that it won
    lead: Interval | None  # over the champion before, on the same items; None: there was none
    bounty: Amount


class History(Message, frozen=True):
    """A page."""

    total: int
    reigns: Annotated[list[Reign], Meta(max_length=MAX_PAGE)]


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
    failures: Annotated[list[Envelope], Meta(max_length=128)] = []  # graders who could not run it, or the champion
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


class Unable(Message, frozen=True):
    """A model that this grader could not run, though the model is not at fault."""

    submission: Key
    why: Annotated[str, Meta(max_length=200)]  # for people


class AskWork(Message, frozen=True):
    """What is there to grade that this grader is able to?

    ``delegation``: ledger.statements.Delegation of the grader's account to this peer.
    """

    delegation: Annotated[bytes, Meta(max_length=8192)]
    holds: Annotated[int, Meta(ge=0, lt=2**62)] = 2**62 - 1  # parameters of a model that it can hold whole
    grid: bool = True  # it grades through the grid what it cannot hold
    unable: Annotated[list[Unable], Meta(max_length=64)] = []


class Task(Message, frozen=True):
    """One model to be graded."""

    submission: Envelope
    serve: bool  # the grid may run it


class Beyond(Message, frozen=True):
    """A model that waits for a grade which this grader is not able to give."""

    name: Annotated[str, Meta(max_length=64)]
    parameters: int
    size: int  # bytes of weights
    serve: bool  # the grid may run it


class Work(Message, frozen=True):
    """A round of which this grader's grades are wanted; no submissions: nothing now."""

    rules: Envelope | None
    lock: Envelope | None
    draw: Envelope | None
    tasks: Annotated[list[Task], Meta(max_length=65)]
    beyond: Annotated[list[Beyond], Meta(max_length=64)] = []


class PutLines(Message, frozen=True):
    """A piece of a list of results; pieces come in their order, and a list that is whole is kept."""

    delegation: Annotated[bytes, Meta(max_length=8192)]
    root: Key
    total: Offset
    offset: Offset
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES)]


class PutGrade(Message, frozen=True):
    """A Grade (its results were put before) or a Failure."""

    document: Envelope
    failure: bool = False


class Taken(Message, frozen=True):
    """It is on disk."""

    known: bool  # it was there already
    offset: Offset = 0  # of a list of results: bytes that are here


_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Message → msgpack."""
    return _encoder.encode(message)


def unpack(raw: bytes, kind: type[M]) -> M:
    """msgpack → message, strictly. Raises WireError."""
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except UNPARSABLE as error:
        raise WireError(f"A message about the leaderboard does not parse: {error}.") from error
