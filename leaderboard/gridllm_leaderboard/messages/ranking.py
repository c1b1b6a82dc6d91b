"""Who leads, and who led."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from gridllm_leaderboard.messages.parts import MAX_PAGE, Amount, Key, Limit, Message, Offset, State, When

RANK_CALL: Final = "gridllm.leaderboard.rank"
HISTORY_CALL: Final = "gridllm.leaderboard.history"


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
