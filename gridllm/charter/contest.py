"""What the maintainers say about the leaderboard: its rules, the models beyond the charter's, the champion.

They are notices (notices.py): signed by the charter's threshold of maintainers, passed on by gossip, kept by everyone.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gridllm.charter.document import ModelEntry
from gridllm.charter.economy import Micro
from gridllm.identity.fields import HexDigest, HexKey, Strict, UnixSeconds

RULES_TYPE: Final = "application/vnd.gridllm.leaderboard-rules+json"
LISTING_TYPE: Final = "application/vnd.gridllm.listing+json"
CROWN_TYPE: Final = "application/vnd.gridllm.crown+json"

PATIENCE_S: Final = 7 * 86400  # never to be changed: rules that do not say mean this, and their ids stand in locks

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class TaskRule(Strict):
    """One task that every submission is graded on; what its items are drawn from is committed to here."""

    name: TaskName
    kind: Literal["text", "choice"]  # bits per byte of text; or which of several continuations is the likeliest
    commitment: HexDigest  # of the task's files, items or their generator included (docs/leaderboard.md)
    items: Annotated[int, Field(ge=2, le=5000)]  # drawn in a round
    weight: Annotated[int, Field(ge=1, le=1000)] = 1  # share in the score


class Rules(Strict):
    """How models are graded; the highest serial holds. A grid without any has no leaderboard."""

    grid: HexDigest
    serial: Annotated[int, Field(ge=1, le=2**31)]
    issued: UnixSeconds
    account: HexKey  # of the leaderboard: takes the fees, signs rounds and verdicts, and is the peer that answers
    graders: Annotated[tuple[HexKey, ...], Field(min_length=1, max_length=64)]  # accounts whose grades count
    quorum: Annotated[int, Field(ge=1, le=64)] = 1  # grades that a submission needs; the median counts
    tasks: Annotated[tuple[TaskRule, ...], Field(min_length=1, max_length=32)]
    fee: Micro = 0  # of a submission
    bounty: Micro = 0  # granted to the author of a new champion
    daily: Annotated[int, Field(ge=1, le=10_000)] = 3  # submissions of one account in 24 hours
    largest_bytes: Annotated[int, Field(ge=1, lt=2**48)] = 20 * 2**30  # of one submission's weights
    tier: Micro = 0  # contribution that the use of a listed model asks for
    round_s: Annotated[int, Field(ge=0, le=31 * 86400)] = 600  # a round waits so long for further submissions
    patience_s: Annotated[int, Field(ge=60, le=366 * 86400)] = PATIENCE_S  # from lock to verdict; then it is void

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({task.name for task in self.tasks}) != len(self.tasks):
            raise ValueError("two tasks have one name")
        if len(set(self.graders)) != len(self.graders):
            raise ValueError("a grader is listed twice")
        if self.quorum > len(self.graders):
            raise ValueError(f"a quorum of {self.quorum} exceeds {len(self.graders)} graders")
        return self

    @model_serializer(mode="wrap")
    def _spelled(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Rules of before ``patience_s`` was a field keep their spelling, and with it the id that locks name."""
        said: dict[str, Any] = handler(self)
        if self.patience_s == PATIENCE_S:
            del said["patience_s"]
        return said


class Listing(Strict):
    """A submitted model that the grid may serve beside the charter's; of one root the latest holds."""

    grid: HexDigest
    model: ModelEntry  # its source is "local": seeds hand it out
    submission: HexDigest
    contribution: Micro  # that an account must have given to use it
    withdrawn: bool = False  # it may not be served any more
    issued: UnixSeconds


class Crown(Strict):
    """From now on ``@champion`` is the model of that root; the highest serial holds. Its listing must stand."""

    grid: HexDigest
    serial: Annotated[int, Field(ge=1, le=2**31)]
    root: HexDigest
    submission: HexDigest
    verdict: HexDigest  # id of the leaderboard's verdict that says why
    former: HexDigest | None = None  # root of the champion before: who has no nodes of the new one yet uses that
    issued: UnixSeconds
