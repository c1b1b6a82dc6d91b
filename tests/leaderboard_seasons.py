"""A leaderboard's paper, signed for real: submissions, rounds, grades, verdicts. For tests of what keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, delete

from gridllm.database.engine import writing
from gridllm.identity.keys import Identity
from gridllm_leaderboard.records import Entry, Mark, ReignRow
from gridllm_leaderboard.results import ItemResult, results_root, write_results
from gridllm_leaderboard.statements import (
    Draw,
    Failure,
    Grade,
    ItemSet,
    Lock,
    Submission,
    TaskGrade,
    Verdict,
    Withdrawal,
    id_of,
    sign,
)
from gridllm_leaderboard.store.batch import Batch
from gridllm_leaderboard.store.schema import metadata

NOW: Final = 1_800_000_000  # Unix time of everything here
GRID: Final = "a1" * 32
LEADERBOARD: Final = Identity.ephemeral()
GRADER: Final = Identity.ephemeral()
AUTHOR: Final = Identity.ephemeral()
KEEPER: Final = "c3" * 32


def digest(*what: object) -> str:
    """A hex digest of its own for whatever it is asked about."""
    return hashlib.sha256(repr(what).encode()).hexdigest()


def submitted(number: int, author: Identity = AUTHOR, *, queued: bool = True, **changes: Any) -> Entry:
    """Submission ``number``, as the desk enters it; ``changes`` are fields of its document."""
    said: dict[str, Any] = {
        "grid": GRID,
        "account": author.public_key.hex(),
        "root": digest("root", number),
        "weights": digest("weights", number),
        "name": f"model-{number}",
        "message": "trained for longer",
        "license": "MIT",
        "base": None,
        "serve": True,
        "parameters": 1_000_000 + number,
        "size": 4_000_000,
        "issued": NOW + number,
    }
    document = Submission(**said | changes)
    state = "queued" if queued else "uploading"
    return Entry(id_of(document), sign(document, author), document, state, entered=NOW + number)


def withdrawn(entry: Entry, author: Identity = AUTHOR, issued: int = NOW) -> bytes:
    """The author takes it down."""
    account = author.public_key.hex()
    return sign(Withdrawal(grid=GRID, account=account, submission=entry.id, issued=issued), author)


def locked(number: int, ids: Sequence[str], champion: str | None = None, issued: int = NOW) -> tuple[bytes, Lock]:
    """The lock of a round."""
    document = Lock(
        grid=GRID,
        round=number,
        rules=digest("rules"),
        submissions=tuple(sorted(ids)),
        champion=champion,
        keeper=KEEPER,
        size=7,
        issued=issued,
    )
    return sign(document, LEADERBOARD), document


def drawn(lock: Lock, issued: int = NOW) -> tuple[bytes, Draw]:
    """The draw that follows a lock."""
    items = ItemSet(task="sums", commitment=digest("sums"), root=digest("items", lock.round), count=2)
    document = Draw(grid=GRID, round=lock.round, lock=id_of(lock), head="{}", items=(items,), issued=issued)
    return sign(document, LEADERBOARD), document


def results(submission: str, number: int) -> list[ItemResult]:
    """What a model made of two items."""
    return [
        ItemResult(item=digest(submission, number, place), points=float(place), logliks=[-1.5, -2.0], size=1)
        for place in range(2)
    ]


def graded(draw: Draw, submission: str, grader: Identity = GRADER, issued: int = NOW) -> tuple[bytes, Grade]:
    """A grade, of ``results``."""
    task = TaskGrade(
        task="sums",
        items=draw.items[0].root,
        results=results_root(results(submission, draw.round)),
        count=2,
        value=0.5,
        points=0.5,
        stderr=0.25,
    )
    document = Grade(
        grid=GRID,
        round=draw.round,
        draw=id_of(draw),
        submission=submission,
        root=digest("root", submission),
        grader=grader.public_key.hex(),
        harness="lm_eval 0.4.13",
        dtype="float32",
        via="local",
        tasks=(task,),
        issued=issued,
    )
    return sign(document, grader), document


def broken(draw: Draw, submission: str, grader: Identity = GRADER) -> tuple[bytes, Failure]:
    """A grader could not run it."""
    document = Failure(
        grid=GRID,
        round=draw.round,
        draw=id_of(draw),
        submission=submission,
        grader=grader.public_key.hex(),
        reason="it needs 900 GB",
        issued=NOW,
    )
    return sign(document, grader), document


def judged(
    draw: Draw,
    champion: str | None,
    *,
    changed: bool = False,
    failed: Sequence[str] = (),
    deferred: Sequence[str] = (),
    issued: int = NOW,
) -> tuple[bytes, Verdict]:
    """The verdict of a round."""
    document = Verdict(
        grid=GRID,
        round=draw.round,
        draw=id_of(draw),
        grades=(),
        outliers=(),
        failed=tuple(sorted(failed)),
        comparisons=(),
        champion=champion,
        changed=changed,
        deferred=tuple(sorted(deferred)),
        issued=issued,
    )
    return sign(document, LEADERBOARD), document


def mark(submission: str, number: int, score: float = 50.0) -> Mark:
    """What the ranking keeps of it."""
    return Mark(submission, number, score, score - 1, score + 1, {"sums": (0.5, 0.25, 0.75)})


def reign(submission: str, number: int) -> ReignRow:
    """It won that round."""
    return ReignRow(submission, NOW, number, 50.0, 49.0, 51.0, None if number == 1 else (1.0, 0.5, 1.5), 1_000_000)


def open_round(batch: Batch, number: int, entries: Sequence[Entry], champion: str | None = None) -> Draw:
    """Enter, lock and draw."""
    for entry in entries:
        batch.enter(entry)
    raw, lock = locked(number, [entry.id for entry in entries], champion)
    batch.lock(number, raw, lock.submissions)
    raw, draw = drawn(lock)
    batch.draw(number, raw)
    return draw


def grade_all(batch: Batch, draw: Draw, ids: Sequence[str]) -> None:
    """Each gets results and a grade."""
    for one in ids:
        raw, grade = graded(draw, one)
        batch.put_lines(grade.tasks[0].results, write_results(results(one, draw.round)))
        batch.grade(id_of(grade), raw, grade)


def whole_round(batch: Batch, number: int, entries: Sequence[Entry], champion: str | None = None) -> str:
    """A round from its submissions to its verdict: the first submission wins. Its id."""
    draw = open_round(batch, number, entries, champion)
    ids = [entry.id for entry in entries] + ([champion] if champion else [])
    grade_all(batch, draw, ids)
    raw, verdict = judged(draw, ids[0], changed=True)
    batch.judge(number, raw, verdict, [mark(one, number) for one in ids], reign(ids[0], number))
    return ids[0]


def emptied(engine: Engine) -> None:
    """A database without any row, for the next test."""
    with writing(engine) as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
