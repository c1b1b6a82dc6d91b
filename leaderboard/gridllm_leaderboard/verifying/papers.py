"""Signatures, ids and how one document names the next. Pure."""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel

from gridllm.charter.contest import Rules
from gridllm.charter.document import SignedCharter
from gridllm.charter.notices import verify_notice
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.beacon import verify_beacon
from gridllm_leaderboard.messages import Dossier
from gridllm_leaderboard.statements import (
    Annulment,
    Draw,
    Failure,
    Grade,
    Lock,
    Submission,
    Verdict,
    Withdrawal,
    id_of,
    verify_document,
)

D = TypeVar("D", bound=BaseModel)

COPIED: Final = ("account", "root", "name", "message", "license", "base", "serve", "parameters", "size", "issued")


def verify_submission(dossier: Dossier, asked: str, grid: str) -> Submission:
    """The submission, signed by its author, and of the id that was asked for; what is shown of it is what it says.

    Raises:
        LeaderboardError: names what is wrong.
    """
    said = _read(dossier.submission, Submission, grid, "")
    found = id_of(said)
    if found != dossier.view.id or not found.startswith(asked):
        raise LeaderboardError(f"The submission that came has the id {found}; {asked} was asked for.")
    for name in COPIED:
        if getattr(said, name) != getattr(dossier.view, name):
            raise LeaderboardError(f"The leaderboard shows another {name} than the author signed.")
    if dossier.withdrawal is not None:
        withdrawal = _read(dossier.withdrawal, Withdrawal, grid, "")
        if (withdrawal.account, withdrawal.submission) != (said.account, found):
            raise LeaderboardError("The withdrawal is not by this submission's author.")
    return said


def verify_rules(raw: bytes | None, signed: SignedCharter) -> Rules:
    """The rules that held in the round, signed by the maintainers. Raises LeaderboardError, NoticeError."""
    notice = verify_notice(_present(raw, "rules"), signed)
    if not isinstance(notice, Rules):
        raise LeaderboardError(f"In place of rules there is a {type(notice).__name__.lower()}.")
    return notice


def verify_lock(dossier: Dossier, submission: str, rules: Rules) -> Lock:
    """The lock of the round, which holds this submission and these rules. Raises LeaderboardError."""
    lock = read_lock(_present(dossier.lock, "lock"), rules)
    if submission != lock.champion and submission not in lock.submissions:
        raise LeaderboardError(f"The lock of round {lock.round} does not hold the submission {submission[:16]}….")
    if list(lock.submissions) != sorted(set(lock.submissions)) or lock.champion in lock.submissions:
        raise LeaderboardError(f"The lock of round {lock.round} holds a submission twice, or not in their order.")
    return lock


def read_lock(raw: bytes, rules: Rules) -> Lock:
    """A lock by these rules. Raises LeaderboardError."""
    lock = _read(raw, Lock, rules.grid, rules.account)
    if lock.rules != id_of(rules):
        raise LeaderboardError(f"The lock of round {lock.round} names other rules than those that came with it.")
    return lock


def verify_annulment(raw: bytes | None, lock: Lock, rules: Rules, leaderboard: str) -> Annulment:
    """That the lock's round is void, said by who locked it or, where that key was lost, by who holds the office now.

    Raises:
        LeaderboardError: forged, or of another lock.
    """
    shown = _present(raw, "annulment")
    try:
        annulment = _read(shown, Annulment, rules.grid, rules.account)
    except LeaderboardError:
        annulment = _read(shown, Annulment, rules.grid, leaderboard)
    if (annulment.lock, annulment.round) != (id_of(lock), lock.round):
        raise LeaderboardError(f"The annulment is of another lock than that of round {lock.round}.")
    return annulment


def verify_draw(dossier: Dossier, lock: Lock, rules: Rules, signed: SignedCharter) -> Draw:
    """The draw that follows from the lock and a later head, of the rules' tasks. Raises LeaderboardError."""
    draw = _read(_present(dossier.draw, "draw"), Draw, rules.grid, rules.account)
    if (draw.lock, draw.round) != (id_of(lock), lock.round):
        raise LeaderboardError(f"The draw is of another lock than that of round {lock.round}.")
    verify_beacon(draw.head.encode(), lock, signed)
    wanted = [(task.name, task.commitment, task.items) for task in rules.tasks]
    if [(one.task, one.commitment, one.count) for one in draw.items] != wanted:
        raise LeaderboardError("The draw's tasks, commitments or numbers of items are not those of the rules.")
    return draw


def verify_grades(raws: list[bytes], rules: Rules, draw: Draw) -> dict[str, Grade]:
    """By id: grades of this draw, each signed by its grader. Raises LeaderboardError."""
    grades = {}
    for raw in raws:
        grade = _read(raw, Grade, rules.grid, rules.account)
        if (grade.draw, grade.round) != (id_of(draw), draw.round):
            raise LeaderboardError(f"A grade by {grade.grader[:16]}… is of another draw than round {draw.round}'s.")
        grades[id_of(grade)] = grade
    return grades


def verify_failures(raws: list[bytes], rules: Rules, draw: Draw) -> dict[str, Failure]:
    """By id: what graders could not run in this round, each signed by its grader. Raises LeaderboardError."""
    failures = {}
    for raw in raws:
        failure = _read(raw, Failure, rules.grid, rules.account)
        if failure.draw != id_of(draw):
            raise LeaderboardError(f"A failure told by {failure.grader[:16]}… is of another draw.")
        failures[id_of(failure)] = failure
    return failures


def verify_verdict(raw: bytes | None, draw: Draw, rules: Rules) -> Verdict:
    """The verdict on that draw, signed by the leaderboard; what it says is not looked at. Raises LeaderboardError."""
    verdict = _read(_present(raw, "verdict"), Verdict, rules.grid, rules.account)
    if (verdict.draw, verdict.round) != (id_of(draw), draw.round):
        raise LeaderboardError(f"The verdict is of another draw than round {draw.round}'s.")
    return verdict


def _read(raw: bytes, kind: type[D], grid: str, leaderboard: str) -> D:
    return verify_document(raw, kind, grid, leaderboard)


def _present(raw: bytes | None, name: str) -> bytes:
    if raw is None:
        raise LeaderboardError(f"The leaderboard does not show the {name}.")
    return raw
