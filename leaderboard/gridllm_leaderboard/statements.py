"""The leaderboard's signed documents, in the order in which one submission goes through them.

::

    Submission  author       this model is mine, and I want it graded
    Lock        leaderboard  these submissions are in round n; nothing of them can change from here on
    Draw        leaderboard  a ledger's head that was signed after the lock; items of all tasks follow from both
    Grade       grader       what one model scored on these items         (or Failure: it could not be run)
    Verdict     leaderboard  what follows from the round's grades: who is champion
    Annulment   leaderboard  in place of a verdict: the round is void, its submissions wait for another one
    Withdrawal  author       take my model down

Whoever holds the documents and the charter can check all of it (``gridllm leaderboard verify``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gridllm.charter.contest import TaskName
from gridllm.charter.document import Name
from gridllm.errors import LeaderboardError, StatementError
from gridllm.identity.fields import HexDigest, HexKey, Strict, UnixSeconds
from gridllm.identity.keys import Identity
from gridllm.identity.statement import read_unverified, sign_statement, verify_statement

MAX_DOCUMENT_BYTES: Final = 64 * 1024  # of one envelope
MAX_ROUND: Final = 64  # submissions in one round

Finite = Annotated[float, Field(allow_inf_nan=False)]
Id = HexDigest
"""SHA-256 of a document's type and content (``id_of``), whoever signed it."""


class Submission(Strict):
    """A model to be graded. Signed by the author's account."""

    grid: HexDigest
    account: HexKey  # the author
    root: HexDigest  # of the model's manifest
    weights: HexDigest  # models.manifest.weights_digest: the same for equal tensors, whatever the config says
    name: Name  # of the model; unique on the board
    message: Annotated[str, Field(max_length=500)]  # what is new about it, for people
    license: Annotated[str, Field(min_length=1, max_length=64)]  # SPDX id, or the name it goes by
    base: HexDigest | None  # root of the model that it was made from
    serve: bool  # the grid may serve it to its members
    parameters: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1, lt=2**48)]  # bytes of weights
    issued: UnixSeconds


class Withdrawal(Strict):
    """The model is taken down; its grades stay. Signed by the author's account."""

    grid: HexDigest
    account: HexKey
    submission: Id
    issued: UnixSeconds


class Lock(Strict):
    """The submissions of one round, and the champion they are measured against. Signed by the leaderboard."""

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    rules: Id  # of the rules notice (contest.Rules) that holds for the round
    submissions: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_ROUND)]  # sorted
    champion: Id | None  # submission of the reigning champion, which is graded again on the same items
    keeper: HexKey  # whose next head decides the items
    size: Annotated[int, Field(ge=0)]  # entries of that keeper's log when this was signed
    issued: UnixSeconds


class ItemSet(Strict):
    """One task's items in a round."""

    task: TaskName
    commitment: HexDigest  # as the rules have it
    root: HexDigest  # Merkle root over the items' digests (items.root_of)
    count: Annotated[int, Field(ge=1, le=5000)]


class Draw(Strict):
    """The items of a round. Signed by the leaderboard; the seed is ``beacon.seed_of(lock, head)``."""

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    lock: Id
    head: Annotated[str, Field(max_length=8192)]  # the envelope of ledger.log.heads.Head
    items: Annotated[tuple[ItemSet, ...], Field(min_length=1, max_length=32)]
    issued: UnixSeconds


class TaskGrade(Strict):
    """One model on one task's items."""

    task: TaskName
    items: HexDigest  # ItemSet.root
    results: HexDigest  # Merkle root over the results' lines (results.root_of)
    count: Annotated[int, Field(ge=1, le=5000)]
    value: Finite  # text: bits per byte over all items; choice: share of items that are right
    points: Annotated[Finite, Field(ge=0, le=1)]  # mean of the items' points: higher is better in every task
    stderr: Annotated[Finite, Field(ge=0)]  # of ``points``


class Grade(Strict):
    """What a model scored in one round. Signed by the grader's account.

    ``practice`` counts for nothing but the report on models that learnt the public items by heart (contamination.py).
    """

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    draw: Id
    submission: Id
    root: HexDigest  # of the model
    grader: HexKey
    harness: Annotated[str, Field(max_length=64)]  # "lm_eval 0.4.13"
    dtype: Literal["float32", "bfloat16", "float16"]
    via: Literal["local", "grid"]
    tasks: Annotated[tuple[TaskGrade, ...], Field(min_length=1, max_length=32)]
    practice: Annotated[tuple[TaskGrade, ...], Field(max_length=32)] = ()  # the same on public items: no part of it
    issued: UnixSeconds


class Failure(Strict):
    """A model that could not be graded. Signed by the grader's account."""

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    draw: Id
    submission: Id
    grader: HexKey
    reason: Annotated[str, Field(min_length=1, max_length=500)]  # for people
    issued: UnixSeconds


class Comparison(Strict):
    """Challenger minus champion: the score's difference on the same items, with its paired-bootstrap interval."""

    submission: Id
    difference: Finite
    low: Finite
    high: Finite


class Verdict(Strict):
    """The end of a round. Signed by the leaderboard; a pure function of the round's grades (ranking.verdict)."""

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    draw: Id
    grades: Annotated[tuple[Id, ...], Field(max_length=MAX_ROUND * 64)]  # that counted, sorted
    outliers: Annotated[tuple[Id, ...], Field(max_length=MAX_ROUND * 64)]  # grades that disagree with the others
    failed: Annotated[tuple[Id, ...], Field(max_length=MAX_ROUND)]  # submissions that no grader could run
    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=MAX_ROUND)]
    champion: Id | None  # submission that is champion from now on
    changed: bool  # it was not before
    deferred: Annotated[tuple[Id, ...], Field(max_length=MAX_ROUND + 1)] = ()
    """Models, sorted, that no grader was able to grade in this round (too large for their machines, no nodes for them):
    submissions wait for a round again, and of a champion no comparison is made."""
    issued: UnixSeconds

    @model_serializer(mode="wrap")
    def _as_before(self, spell: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``deferred`` where there are none: verdicts from before there was that field keep their ids."""
        said: dict[str, Any] = spell(self)
        return said if self.deferred else {name: value for name, value in said.items() if name != "deferred"}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.changed and self.champion is None:
            raise ValueError("nobody became champion")
        return self


class Annulment(Strict):
    """A round that is void: no scores, no champion, no bounty; its submissions are queued again.

    Signed by the leaderboard when the rules' patience is over, or its maintainer gives the round up.
    """

    grid: HexDigest
    round: Annotated[int, Field(ge=1)]
    lock: Id
    reason: Annotated[str, Field(min_length=1, max_length=500)]  # for people
    issued: UnixSeconds


Document = Submission | Withdrawal | Lock | Draw | Grade | Failure | Verdict | Annulment
D = TypeVar("D", bound=BaseModel)

TYPES: Final[Mapping[type[BaseModel], str]] = {
    kind: f"application/vnd.gridllm.{kind.__name__.lower()}+json"
    for kind in (Submission, Withdrawal, Lock, Draw, Grade, Failure, Verdict, Annulment)
}
SIGNERS: Final[Mapping[type[BaseModel], str]] = {
    Submission: "account",
    Withdrawal: "account",
    Grade: "grader",
    Failure: "grader",
}
"""The field that names the signer; the leaderboard's account signs the others."""


def sign(document: Document, identity: Identity) -> bytes:
    """The envelope. Raises StatementError: it would be too large."""
    return sign_statement(document, TYPES[type(document)], [identity])


def verify_document(raw: bytes, kind: type[D], grid: str, leaderboard: str) -> D:
    """The document in ``raw``, once its signer is known to have signed it for this grid.

    Args:
        leaderboard: account (hex key) of the leaderboard, by the rules.

    Raises:
        LeaderboardError: malformed, forged, of another kind or grid.
    """
    try:
        claimed, _ = read_unverified(raw, kind, TYPES[kind])
        signer = getattr(claimed, SIGNERS[kind]) if kind in SIGNERS else leaderboard
        document = verify_statement(raw, kind, TYPES[kind], [bytes.fromhex(signer)], 1)
    except StatementError as error:
        raise LeaderboardError(f"A {kind.__name__.lower()} cannot be used: {error}") from error
    if getattr(document, "grid", None) != grid:
        raise LeaderboardError(f"A {kind.__name__.lower()} is of another grid.")
    return document


def id_of(document: BaseModel) -> str:
    """Hex SHA-256 of a document's type and content; also of a notice about the leaderboard (contest.Rules)."""
    kind = TYPES.get(type(document), type(document).__name__)
    return hashlib.sha256(f"{kind}\n{document.model_dump_json()}".encode()).hexdigest()
