"""What happens in a round: it is locked, drawn, graded and judged."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import func, insert, select, update

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import lines_root
from gridllm_leaderboard.statements import Draw, Failure, Grade, Lock, Verdict, id_of
from gridllm_leaderboard.store.records import Mark, ReignRow, Round
from gridllm_leaderboard.store.schema import grades, lines, reigns, rounds, spent, submissions
from gridllm_leaderboard.store.spelling import document_of, reign_columns, write_marks
from gridllm_leaderboard.store.view import View

PACKING: Final = 1  # zlib's quickest level: the transaction is the only one meanwhile


class Proceedings(View):
    """Rounds, step by step; each step needs the one before."""

    def lock(self, number: int, raw: bytes, ids: Sequence[str]) -> bool:
        """Open a round over queued submissions, which are locked from now on; False: that lock is here.

        Raises:
            LeaderboardError: it is not the next round, the one before is open, a submission is not queued, or the
                champion is another one.
        """
        document = document_of(raw, Lock)
        there = self.round(number)
        if there is not None:
            return _same(there.lock, document, f"Round {number} is locked already")
        if number != document.round or list(ids) != list(document.submissions) or sorted(set(ids)) != list(ids):
            raise LeaderboardError(f"The lock of round {document.round} is about other submissions, or not sorted.")
        if number != self.last_round() + 1 or self.open_round() is not None:
            raise LeaderboardError(f"Round {number} cannot be locked: the last is {self.last_round()}, or not judged.")
        if document.champion != self.champion():
            raise LeaderboardError(f"The champion that round {number} is locked with does not reign.")
        found = self.states(ids)
        for one in ids:
            if found.get(one) != "queued":
                raise LeaderboardError(f"Submission {one[:16]}… is {found.get(one, 'unknown')}, not queued.")
        self._connection.execute(insert(rounds), {"number": number, "lock": raw})
        members = update(submissions).where(submissions.c.id.in_(list(ids)))
        self._connection.execute(members.values(state="locked", why="", round=number))
        return True

    def draw(self, number: int, raw: bytes) -> bool:
        """Keep what a locked round's items are; False: that draw is here.

        Raises:
            LeaderboardError: there is no such round, it is of another lock, or another draw is here.
        """
        document, there = document_of(raw, Draw), self._round(number)
        if there.draw is not None:
            return _same(there.draw, document, f"Round {number} is drawn already")
        if document.round != number or document.lock != id_of(there.lock):
            raise LeaderboardError(f"The draw is not that of round {number}'s lock.")
        self._connection.execute(update(rounds).where(rounds.c.number == number).values(draw=raw))
        return True

    def put_lines(self, root: str, raw: bytes) -> bool:
        """Keep a list of items or results; False: it is here.

        Raises:
            LeaderboardError: it is too long, or its root is another.
        """
        if lines_root(raw) != root:
            raise LeaderboardError(f"A list does not have the root {root[:16]}…: it was altered, or cut short.")
        if self.has_lines(root):
            return False
        canonical = b"".join(line + b"\n" for line in raw.splitlines())
        row = {"root": root, "size": len(canonical), "data": zlib.compress(canonical, PACKING)}
        self._connection.execute(insert(lines), row)
        return True

    def grade(self, id_: str, raw: bytes, grade: Grade) -> bool:
        """Keep a grader's grade, whose results are here; False: it is here.

        Raises:
            LeaderboardError: the round is not being graded or not of that submission, results are lacking, or this
                grader said something else about it before.
        """
        if not self._open_to(id_, raw, grade, "grade"):
            return False
        for task in grade.tasks:
            if not self.has_lines(task.results):
                raise LeaderboardError(f"The results {task.results[:16]}… of a grade are not here; hand them in first.")
        self._add(id_, raw, grade, "grade")
        return True

    def failure(self, id_: str, raw: bytes, failure: Failure) -> bool:
        """Keep what a grader could not run; False: it is here. Raises LeaderboardError as ``grade`` does."""
        if not self._open_to(id_, raw, failure, "failure"):
            return False
        self._add(id_, raw, failure, "failure")
        return True

    def judge(
        self, number: int, raw: bytes, verdict: Verdict, marks: Sequence[Mark], reign: ReignRow | None = None
    ) -> bool:
        """End a round: its submissions are graded, failed or wait again, ``reign`` begins; False: that verdict is here.

        A submission that was withdrawn meanwhile has its mark and stays withdrawn.

        Raises:
            LeaderboardError: the round is not drawn, another verdict is here, a submission is left out, or the new
                champion was withdrawn.
        """
        there = self._round(number)
        if document_of(raw, Verdict) != verdict or verdict.round != number:
            raise LeaderboardError(f"The verdict is not that of round {number}.")
        if there.verdict_raw is not None:
            return _same(document_of(there.verdict_raw, Verdict), verdict, f"Round {number} is judged already")
        if there.draw is None or verdict.draw != id_of(there.draw):
            raise LeaderboardError(f"The verdict is not that of round {number}'s draw.")
        self._check_marks(there, verdict, marks)
        self._begin(verdict, reign)
        done = {"verdict": raw, "marks": write_marks(list(marks))}
        self._connection.execute(update(rounds).where(rounds.c.number == number).values(**done))
        self._settle(number, [mark.submission for mark in marks], verdict.failed)
        self._put_off(number, verdict.deferred)
        return True

    def spend(self, task: str, digests: Iterable[str]) -> None:
        """These items of a pool are used, and will not be again."""
        new = sorted(set(digests) - self.spent(task))
        if new:
            self._connection.execute(insert(spent), [{"task": task, "item": bytes.fromhex(one)} for one in new])

    def _round(self, number: int) -> Round:
        found = self.round(number)
        if found is None:
            raise LeaderboardError(f"There is no round {number}.")
        return found

    def _open_to(self, id_: str, raw: bytes, said: Grade | Failure, kind: str) -> bool:
        """Whether a grader's document is new, and one that its round takes. Raises LeaderboardError."""
        if document_of(raw, type(said)) != said or id_of(said) != id_:
            raise LeaderboardError(f"The {kind} {id_[:16]}… is not what its document says.")
        where = (grades.c.round, said.round), (grades.c.submission, said.submission), (grades.c.grader, said.grader)
        before = self._connection.execute(select(grades.c.id).where(*(column == value for column, value in where)))
        known = before.scalar()
        if known == id_:
            return False
        if known is not None:
            raise LeaderboardError(
                f"This grader has said something else about {said.submission[:16]}… in round {said.round} already."
            )
        there = self._round(said.round)
        if there.draw is None or said.draw != id_of(there.draw) or said.submission not in there.graded:
            raise LeaderboardError(f"The {kind} is not of what was drawn in round {said.round}.")
        if there.verdict_raw is not None:
            raise LeaderboardError(f"Round {said.round} is judged; its grades are complete.")
        return True

    def _add(self, id_: str, raw: bytes, said: Grade | Failure, kind: str) -> None:
        number = self._connection.execute(select(func.coalesce(func.max(grades.c.number), 0) + 1)).scalar_one()
        row = {"number": number, "id": id_, "kind": kind, "raw": raw}
        self._connection.execute(insert(grades), {**row, **grade_columns(said)})

    def _check_marks(self, there: Round, verdict: Verdict, marks: Sequence[Mark]) -> None:
        marked = {mark.submission for mark in marks}
        if len(marked) != len(marks) or not marked <= set(there.graded):
            raise LeaderboardError(f"The marks of round {there.number} are not of its submissions.")
        if any(mark.round != there.number for mark in marks):
            raise LeaderboardError(f"A mark of round {there.number} is of another round.")
        if deferred := marked & {*verdict.deferred}:
            raise LeaderboardError(f"{min(deferred)[:16]}… is put off and graded in round {there.number}.")
        left = set(there.lock.submissions) - marked - {*verdict.failed, *verdict.deferred}
        if left:
            raise LeaderboardError(f"The verdict of round {there.number} leaves {min(left)[:16]}… out.")

    def _begin(self, verdict: Verdict, reign: ReignRow | None) -> None:
        """Let the new champion reign, if there is one."""
        if (reign is not None) != verdict.changed:
            raise LeaderboardError("A reign begins when the verdict changes the champion, and only then.")
        if reign is None:
            return
        if reign.submission != verdict.champion or reign.round != verdict.round:
            raise LeaderboardError("The reign is not that of the verdict's champion.")
        if self.states([reign.submission]).get(reign.submission) not in ("locked", "graded"):
            raise LeaderboardError(f"Submission {reign.submission[:16]}… cannot reign: it was taken down.")
        self._connection.execute(insert(reigns), reign_columns(reign))

    def _settle(self, number: int, marked: Sequence[str], failed: Sequence[str]) -> None:
        """Submissions of the round are graded, or failed for the reason that was given first."""
        one = submissions.c
        locked = (one.state == "locked") & (one.round == number)
        self._connection.execute(update(submissions).where(one.id.in_(list(marked))).values(round=number))
        self._connection.execute(update(submissions).where(locked, one.id.in_(list(marked))).values(state="graded"))
        for id_ in failed:
            reasons = [kept.document.reason.replace("\0", "") for kept in self.failures(number, id_)]
            why = reasons[0] if reasons else "no grader could run it"
            self._connection.execute(update(submissions).where(locked, one.id == id_).values(state="failed", why=why))

    def _put_off(self, number: int, deferred: Sequence[str]) -> None:
        """These wait for a round again, as they did before; what was paid stays paid."""
        one = submissions.c
        before = {mark.submission: mark.round for mark in self.marks()} if deferred else {}
        for id_ in deferred:
            again = update(submissions).where((one.state == "locked") & (one.round == number), one.id == id_)
            self._connection.execute(again.values(state="queued", why="", round=before.get(id_, 0)))


def grade_columns(said: Grade | Failure) -> dict[str, Any]:
    """The columns of ``grades`` that follow from the document."""
    return {"round": said.round, "submission": said.submission, "grader": said.grader}


def _same(there: BaseModel, document: BaseModel, what: str) -> bool:
    """False: nothing is new. Raises LeaderboardError: another document stands there."""
    if there != document:
        raise LeaderboardError(f"{what}, by another document.")
    return False
