"""What can be asked of the store: one state of it, as of the transaction's first question."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, func, select

from gridllm_leaderboard.messages import State
from gridllm_leaderboard.records import Entry, Kept, Mark, ReignRow, Round
from gridllm_leaderboard.results import MAX_LINES_BYTES
from gridllm_leaderboard.statements import Failure, Grade
from gridllm_leaderboard.store.schema import grades, lines, reigns, rounds, settings, spent, submissions
from gridllm_leaderboard.store.spelling import damaged, entry_of, kept_of, read_marks, reign_of, round_of, rules_in

VACANT_KEY: Final = "champion:vacated"  # in the settings: the submission that the title was taken from
MAX_FOUND: Final = 16  # ids that a shortened one may stand for

D = TypeVar("D", Grade, Failure)


class View:
    """The store's questions. It lives as long as its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entry(self, id_: str) -> Entry | None:
        """The submission of that id."""
        return self._first(select(submissions).where(submissions.c.id == id_))

    def several(self, ids: Collection[str]) -> dict[str, Entry]:
        """Submissions by id, of those that are here: for a page of the ranking."""
        found = self._entries(select(submissions).where(submissions.c.id.in_(list(ids)))) if ids else []
        return {one.id: one for one in found}

    def find(self, prefix: str) -> list[str]:
        """Ids that begin so (lower-case hex), no more than ``MAX_FOUND``."""
        ids = submissions.c.id
        query = select(ids).where(ids >= prefix, ids < prefix + "g").order_by(ids).limit(MAX_FOUND)
        return list(self._connection.execute(query).scalars())

    def entries(self, account: str | None = None, offset: int = 0, limit: int = 100) -> list[Entry]:
        """Submissions, newest first."""
        query = select(submissions).order_by(submissions.c.number.desc()).offset(offset).limit(limit)
        return self._entries(query if account is None else query.where(submissions.c.account == account))

    def count(self, account: str | None = None, since: int = 0) -> int:
        """How many were taken since then (Unix time), refused ones included."""
        query = select(func.count()).select_from(submissions)
        if account is not None:
            query = query.where(submissions.c.account == account)
        return int(self._connection.execute(query.where(submissions.c.entered >= since)).scalar_one())

    def with_root(self, root: str) -> Entry | None:
        """The submission of that model; withdrawn ones count, refused ones do not."""
        return self._holder(submissions.c.root == root)

    def with_weights(self, digest: str) -> Entry | None:
        """The submission of those weights; withdrawn ones count, refused ones do not."""
        return self._holder(submissions.c.weights == digest)

    def with_name(self, name: str) -> Entry | None:
        """The submission of that name, in whatever case; those refused or withdrawn do not count."""
        return self._holder((submissions.c.folded == name.casefold()) & (submissions.c.state != "withdrawn"))

    def in_state(self, *states: State) -> list[Entry]:
        """Submissions in one of these states, oldest first."""
        return self._entries(select(submissions).where(submissions.c.state.in_(states)).order_by(submissions.c.number))

    def states(self, ids: Collection[str]) -> dict[str, State]:
        """States by id, of those submissions that are here."""
        query = select(submissions.c.id, submissions.c.state).where(submissions.c.id.in_(list(ids)))
        return {row.id: row.state for row in self._connection.execute(query)}

    def withdrawn(self) -> set[str]:
        """Ids of submissions that were taken down: the ranking leaves them out."""
        return set(
            self._connection.execute(select(submissions.c.id).where(submissions.c.state == "withdrawn")).scalars()
        )

    def round(self, number: int) -> Round | None:
        """The round of that number."""
        row = self._connection.execute(select(rounds).where(rounds.c.number == number)).first()
        return None if row is None else round_of(row)

    def last_round(self) -> int:
        """The newest round's number; 0: there was none."""
        return int(self._connection.execute(select(func.max(rounds.c.number))).scalar() or 0)

    def rounds(self, offset: int = 0, limit: int = 100) -> list[Round]:
        """Rounds, newest first."""
        query = select(rounds).order_by(rounds.c.number.desc()).offset(offset).limit(limit)
        return [round_of(row) for row in self._connection.execute(query)]

    def rules_by_round(self, after: int = 0) -> dict[int, str]:
        """Id of the rules that each round was locked under, of the rounds behind ``after``."""
        query = select(rounds.c.number, rounds.c.lock).where(rounds.c.number > after)
        return {int(row.number): rules_in(bytes(row.lock)) for row in self._connection.execute(query)}

    def open_round(self) -> Round | None:
        """The round that has come to no end; there is one at most, the last."""
        last = self.round(self.last_round())
        return last if last is not None and last.open else None

    def annulled(self, offset: int = 0, limit: int = 100) -> list[Round]:
        """Rounds that are void, newest first."""
        query = select(rounds).where(rounds.c.annulment.is_not(None)).order_by(rounds.c.number.desc())
        return [round_of(row) for row in self._connection.execute(query.offset(offset).limit(limit))]

    def count_annulled(self) -> int:
        """How many rounds are void."""
        query = select(func.count()).select_from(rounds).where(rounds.c.annulment.is_not(None))
        return int(self._connection.execute(query).scalar_one())

    def grades(self, number: int, submission: str | None = None) -> list[Kept[Grade]]:
        """The round's grades (of one submission), in the order in which they came."""
        return self._kept(number, submission, Grade)

    def graded(self, numbers: Collection[int]) -> dict[int, int]:
        """How many submissions of each of these rounds have a grade: for listings; reads no document."""
        one = grades.c
        query = select(one.round, func.count(one.submission.distinct())).group_by(one.round)
        chosen = query.where(one.round.in_(list(numbers)), one.kind == "grade")
        return dict.fromkeys(numbers, 0) | {int(row[0]): int(row[1]) for row in self._connection.execute(chosen)}

    def failures(self, number: int, submission: str | None = None) -> list[Kept[Failure]]:
        """What graders could not run, in the order in which they said so."""
        return self._kept(number, submission, Failure)

    def verdict(self, number: int) -> bytes | None:
        """The round's verdict (an envelope)."""
        raw = self._connection.execute(select(rounds.c.verdict).where(rounds.c.number == number)).scalar()
        return None if raw is None else bytes(raw)

    def reigns(self) -> list[ReignRow]:
        """Champions over time, oldest first."""
        return [reign_of(row) for row in self._connection.execute(select(reigns).order_by(reigns.c.round))]

    def champion(self) -> str | None:
        """The reigning champion's submission; None: there was none yet, or the title is vacant."""
        query = select(reigns.c.submission).order_by(reigns.c.round.desc()).limit(1)
        last = self._connection.execute(query).scalar()
        return None if last is None or last == self.value(VACANT_KEY) else last

    def lines(self, root: str) -> bytes | None:
        """A list of items or results, by its Merkle root."""
        raw = self._connection.execute(select(lines.c.data).where(lines.c.root == root)).scalar()
        return None if raw is None else unpacked(root, bytes(raw))

    def has_lines(self, root: str) -> bool:
        """Whether that list is here; reads nothing of it."""
        return self._connection.execute(select(lines.c.size).where(lines.c.root == root)).scalar() is not None

    def marks(self) -> list[Mark]:
        """Of each graded submission those of the last round that graded it, in the order of the rounds."""
        query = select(rounds.c.marks).where(rounds.c.marks.is_not(None)).order_by(rounds.c.number)
        found: dict[str, Mark] = {}
        for raw in self._connection.execute(query).scalars():
            for mark in read_marks(raw):
                found[mark.submission] = mark
        return list(found.values())

    def spent(self, task: str) -> set[str]:
        """Digests of the pool's items that rounds have used."""
        return {
            bytes(item).hex()
            for item in self._connection.execute(select(spent.c.item).where(spent.c.task == task)).scalars()
        }

    def settled(self, transfer: str) -> bool:
        """Whether that transfer of the ledger paid for a submission already."""
        return (
            self._connection.execute(select(submissions.c.id).where(submissions.c.transfer == transfer)).first()
            is not None
        )

    def value(self, key: str) -> str | None:
        """What ``Batch.keep`` kept."""
        return self._connection.execute(select(settings.c.value).where(settings.c.key == key)).scalar()

    def values(self, prefix: str) -> dict[str, str]:
        """What was kept under keys of that prefix and a submission's id, by id: in one question for a long queue."""
        key = settings.c.key
        query = select(key, settings.c.value).where(key >= prefix, key < prefix + "g")
        return {row.key.removeprefix(prefix): row.value for row in self._connection.execute(query)}

    def _first(self, query: Select[tuple[object, ...]]) -> Entry | None:
        row = self._connection.execute(query).first()
        return None if row is None else entry_of(row)

    def _entries(self, query: Select[tuple[object, ...]]) -> list[Entry]:
        return [entry_of(row) for row in self._connection.execute(query)]

    def _holder(self, same: ColumnElement[bool]) -> Entry | None:
        query = select(submissions).where(same, submissions.c.state != "refused").order_by(submissions.c.number)
        return self._first(query.limit(1))

    def _kept(self, number: int, submission: str | None, kind: type[D]) -> list[Kept[D]]:
        query = select(grades).where(grades.c.round == number, grades.c.kind == kind.__name__.lower())
        if submission is not None:
            query = query.where(grades.c.submission == submission)
        return [kept_of(row, kind) for row in self._connection.execute(query.order_by(grades.c.number))]


def unpacked(root: str, data: bytes) -> bytes:
    """A list as it lies in the database → JSON lines. Raises LeaderboardError: it has rotted."""
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(data, MAX_LINES_BYTES + 1)  # no more than a list may have
        if not unpacking.eof:
            raise zlib.error("its end is missing")
        return raw
    except zlib.error as error:
        raise damaged(f"the list {root[:16]}…", error) from error
