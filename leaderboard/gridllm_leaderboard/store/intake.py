"""What happens to one submission: it comes, is checked, is paid for, is taken down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, insert, select, update

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.messages import State
from gridllm_leaderboard.records import Entry
from gridllm_leaderboard.statements import Submission, Withdrawal, id_of
from gridllm_leaderboard.store.schema import submissions
from gridllm_leaderboard.store.spelling import document_of, write_overlaps
from gridllm_leaderboard.store.view import View

MAX_WHY: Final = 1024  # characters

FOLLOWING: Final[Mapping[State, frozenset[State]]] = {
    "uploading": frozenset({"checking", "refused"}),
    "checking": frozenset({"uploading", "unpaid", "queued", "refused"}),  # uploading: its files were lost
    "unpaid": frozenset({"uploading", "checking", "queued", "refused"}),
    "queued": frozenset(
        {"uploading", "checking", "refused", "graded"}
    ),  # locked: by ``lock`` alone; graded: had a place
    "locked": frozenset(),  # graded, failed and queued: by ``judge`` and ``annul`` alone
    "graded": frozenset({"queued"}),  # by other tasks, which hold now
    "failed": frozenset({"queued"}),
    "refused": frozenset(),
    "withdrawn": frozenset(),
}
"""The states that ``Intake.state`` may put a submission into, by the one it is in."""


class Intake(View):
    """Submissions, one at a time."""

    def enter(self, entry: Entry) -> bool:
        """Take a submission; False: it is here already, in whatever state.

        Raises:
            LeaderboardError: its document is not the entry's, or its model, weights or name are taken.
        """
        submission = document_of(entry.raw, Submission)
        if submission != entry.submission or id_of(submission) != entry.id:
            raise LeaderboardError(f"The entry {entry.id[:16]}… is not what its submission says.")
        if self.entry(entry.id) is not None:
            return False
        self._check_free(submission)
        number = self._connection.execute(select(func.coalesce(func.max(submissions.c.number), 0) + 1)).scalar_one()
        row = {
            "number": number,
            **columns_of(entry.raw, submission),
            "entered": entry.entered,
            "state": entry.state,
            "why": _told(entry.why),
            "round": entry.round,
            "withdrawal": entry.withdrawal,
            "overlaps": write_overlaps(entry.overlaps),
        }
        self._connection.execute(insert(submissions), row)
        return True

    def state(self, id_: str, state: State, why: str = "") -> None:
        """Put a submission into another state, or say another ``why`` of the one it is in.

        Raises:
            LeaderboardError: it is unknown, or that state does not follow (``FOLLOWING``).
        """
        entry = self._known(id_)
        if state != entry.state and state not in FOLLOWING[entry.state]:
            raise LeaderboardError(f"Submission {id_[:16]}… is {entry.state}; {state} cannot follow.")
        self._set(id_, state=state, why=_told(why))

    def bring_again(self, id_: str, why: str) -> None:
        """The files of one that waits are gone: its author is asked for them; who has a place already keeps that.

        Raises:
            LeaderboardError: it is unknown, or does not wait.
        """
        entry = self._known(id_)
        if entry.state == "queued" and entry.round:
            self.state(id_, "graded")
        else:
            self.state(id_, "uploading", why)

    def paid(self, id_: str, transfer: str) -> bool:
        """Its fee was paid by that transfer of the ledger; an unpaid one is queued; False: that is known.

        Raises:
            LeaderboardError: it is unknown or was paid by another transfer, or that one paid for another submission.
        """
        entry = self._known(id_)
        query = select(submissions.c.id).where(submissions.c.transfer == transfer)
        holder = self._connection.execute(query).scalar()
        if holder == id_:
            return False
        if holder is not None:
            raise LeaderboardError(f"Transfer {transfer[:16]}… paid for submission {holder[:16]}… already.")
        if entry.paid:
            raise LeaderboardError(f"Submission {id_[:16]}… was paid for by another transfer.")
        if entry.state == "unpaid":
            self._set(id_, transfer=transfer, state="queued", why="")
        else:
            self._set(id_, transfer=transfer)
        return True

    def withdraw(self, id_: str, raw: bytes) -> bool:
        """Take a submission down, by its author's ``Withdrawal``; False: that is done.

        Raises:
            LeaderboardError: it is unknown, reigns as champion, was refused or withdrawn otherwise, or the document is
                about another one.
        """
        entry, document = self._known(id_), document_of(raw, Withdrawal)
        if document.submission != id_ or document.account != entry.submission.account:
            raise LeaderboardError(f"The withdrawal is not that of {id_[:16]}… by its author.")
        if entry.withdrawal is not None:
            if document_of(entry.withdrawal, Withdrawal) == document:
                return False
            raise LeaderboardError(f"Submission {id_[:16]}… is withdrawn already.")
        if entry.state == "refused":
            raise LeaderboardError(f"Submission {id_[:16]}… was refused: there is nothing to withdraw.")
        if self.champion() == id_:
            raise LeaderboardError(
                f"Submission {id_[:16]}… is the reigning champion; it can be withdrawn once another one is."
            )
        self._set(id_, state="withdrawn", why="by its author", withdrawal=raw)
        return True

    def overlaps(self, id_: str, found: Mapping[str, float]) -> None:
        """Keep the contamination report: overlap by task. Raises LeaderboardError: it is unknown."""
        self._known(id_)
        self._set(id_, overlaps=write_overlaps(found))

    def _check_free(self, submission: Submission) -> None:
        for what, holder in (
            ("This model", self.with_root(submission.root)),
            ("A model of these weights", self.with_weights(submission.weights)),
            (f"A model named {submission.name!r}", self.with_name(submission.name)),
        ):
            if holder is not None:
                raise LeaderboardError(f"{what} is on the leaderboard already: submission {holder.id[:16]}….")

    def _known(self, id_: str) -> Entry:
        entry = self.entry(id_)
        if entry is None:
            raise LeaderboardError(f"There is no submission {id_[:16]}… here.")
        return entry

    def _set(self, id_: str, **values: Any) -> None:
        self._connection.execute(update(submissions).where(submissions.c.id == id_).values(**values))


def columns_of(raw: bytes, submission: Submission) -> dict[str, Any]:
    """The columns of ``submissions`` that follow from the document."""
    return {
        "id": id_of(submission),
        "raw": raw,
        "account": submission.account,
        "root": submission.root,
        "weights": submission.weights,
        "folded": submission.name.casefold(),
    }


def _told(why: str) -> str:
    """Strangers have a say in it: PostgreSQL takes no NUL, and people no novel."""
    return why.replace("\0", "")[:MAX_WHY]
