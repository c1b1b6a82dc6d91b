"""The steps of a round: it is locked, drawn, and judged or annulled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel
from sqlalchemy import insert, update

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.records import Mark, ReignRow, Round
from gridllm_leaderboard.statements import Annulment, Draw, Lock, Verdict, id_of
from gridllm_leaderboard.store.handed import Handed, check_not_annulled
from gridllm_leaderboard.store.schema import reigns, rounds, spent, submissions
from gridllm_leaderboard.store.spelling import document_of, reign_columns, write_marks


class Proceedings(Handed):
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
            raise LeaderboardError(f"Round {number} cannot be locked: the last is {self.last_round()}, or open.")
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
            LeaderboardError: there is no such round, it was annulled or is of another lock, or another draw is here.
        """
        document, there = document_of(raw, Draw), self._round(number)
        check_not_annulled(there)
        if there.draw is not None:
            return _same(there.draw, document, f"Round {number} is drawn already")
        if document.round != number or document.lock != id_of(there.lock):
            raise LeaderboardError(f"The draw is not that of round {number}'s lock.")
        self._connection.execute(update(rounds).where(rounds.c.number == number).values(draw=raw))
        return True

    def judge(
        self, number: int, raw: bytes, verdict: Verdict, marks: Sequence[Mark], reign: ReignRow | None = None
    ) -> bool:
        """End a round: its submissions are graded, failed or wait again, ``reign`` begins; False: that verdict is here.

        A submission that was withdrawn meanwhile has its mark and stays withdrawn.

        Raises:
            LeaderboardError: the round is not drawn or was annulled, another verdict is here, a submission is left
                out, or the new champion was withdrawn.
        """
        there = self._round(number)
        if document_of(raw, Verdict) != verdict or verdict.round != number:
            raise LeaderboardError(f"The verdict is not that of round {number}.")
        if there.verdict_raw is not None:
            return _same(document_of(there.verdict_raw, Verdict), verdict, f"Round {number} is judged already")
        check_not_annulled(there)
        if there.draw is None or verdict.draw != id_of(there.draw):
            raise LeaderboardError(f"The verdict is not that of round {number}'s draw.")
        self._check_marks(there, verdict, marks)
        self._begin(verdict, reign)
        done = {"verdict": raw, "marks": write_marks(list(marks))}
        self._connection.execute(update(rounds).where(rounds.c.number == number).values(**done))
        self._settle(number, [mark.submission for mark in marks], verdict.failed)
        self._put_off(number, verdict.deferred, "")
        return True

    def annul(self, number: int, raw: bytes) -> bool:
        """End a round without a verdict; False: that annulment is here.

        Its submissions are queued again, paid as they are. What it drew stays spent, its grades count for nothing.

        Raises:
            LeaderboardError: there is no such round, it is judged, or was annulled by another document.
        """
        document, there = document_of(raw, Annulment), self._round(number)
        if there.annulment is not None:
            return _same(there.annulment, document, f"Round {number} is annulled already")
        if there.verdict_raw is not None:
            raise LeaderboardError(f"Round {number} is judged, and a verdict is not taken back.")
        if document.round != number or document.lock != id_of(there.lock):
            raise LeaderboardError(f"The annulment is not that of round {number}'s lock.")
        self._connection.execute(update(rounds).where(rounds.c.number == number).values(annulment=raw))
        why = f"Round {number} was annulled: {document.reason}".replace("\0", "")
        self._put_off(number, there.lock.submissions, why)
        return True

    def spend(self, task: str, digests: Iterable[str]) -> None:
        """These items of a pool are used, and will not be again."""
        new = sorted(set(digests) - self.spent(task))
        if new:
            self._connection.execute(insert(spent), [{"task": task, "item": bytes.fromhex(one)} for one in new])

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

    def _put_off(self, number: int, ids: Sequence[str], why: str) -> None:
        """These wait for a round again, as they did before; what was paid stays paid."""
        one = submissions.c
        before = {mark.submission: mark.round for mark in self.marks()} if ids else {}
        for id_ in ids:
            again = update(submissions).where((one.state == "locked") & (one.round == number), one.id == id_)
            self._connection.execute(again.values(state="queued", why=why, round=before.get(id_, 0)))


def _same(there: BaseModel, document: BaseModel, what: str) -> bool:
    """False: nothing is new. Raises LeaderboardError: another document stands there."""
    if there != document:
        raise LeaderboardError(f"{what}, by another document.")
    return False
