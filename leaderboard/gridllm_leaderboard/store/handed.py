"""What graders hand in for a round: lists of results, grades, and that a model could not be run."""

from __future__ import annotations

import zlib
from typing import Any, Final

from sqlalchemy import func, insert, select

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.records import Round
from gridllm_leaderboard.results import lines_root
from gridllm_leaderboard.statements import Failure, Grade, id_of
from gridllm_leaderboard.store.schema import grades, lines
from gridllm_leaderboard.store.spelling import document_of
from gridllm_leaderboard.store.view import View

PACKING: Final = 1  # zlib's quickest level: the transaction is the only one meanwhile


class Handed(View):
    """Graders' papers."""

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
        check_not_annulled(there)
        if there.verdict_raw is not None:
            raise LeaderboardError(f"Round {said.round} is judged; its grades are complete.")
        return True

    def _add(self, id_: str, raw: bytes, said: Grade | Failure, kind: str) -> None:
        number = self._connection.execute(select(func.coalesce(func.max(grades.c.number), 0) + 1)).scalar_one()
        row = {"number": number, "id": id_, "kind": kind, "raw": raw}
        self._connection.execute(insert(grades), {**row, **grade_columns(said)})


def grade_columns(said: Grade | Failure) -> dict[str, Any]:
    """The columns of ``grades`` that follow from the document."""
    return {"round": said.round, "submission": said.submission, "grader": said.grader}


def check_not_annulled(there: Round) -> None:
    """Raises LeaderboardError: nothing comes into it any more."""
    if there.annulment is not None:
        raise LeaderboardError(
            f"Round {there.number} was annulled ({there.annulment.reason}): its grades count for nothing, and its "
            "models come into another round."
        )
