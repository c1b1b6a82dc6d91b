"""What graders ask and hand in."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from gridllm_leaderboard.messages.parts import PIECE_BYTES, Envelope, Key, Message, Offset

WORK_CALL: Final = "gridllm.leaderboard.work"
PUT_LINES_CALL: Final = "gridllm.leaderboard.put_lines"
PUT_GRADE_CALL: Final = "gridllm.leaderboard.put_grade"


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
    unable: Annotated[list[Unable], Meta(max_length=64)] = field(default_factory=list)


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
    beyond: Annotated[list[Beyond], Meta(max_length=64)] = field(default_factory=list)


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
