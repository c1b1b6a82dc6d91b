"""Whether rows are what their documents say: signatures, ids, and every column that follows from an envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar, get_args

from pydantic import BaseModel

from gridllm.errors import GridError, LeaderboardError
from gridllm_leaderboard.messages import State
from gridllm_leaderboard.results import MAX_LINES_BYTES, lines_root
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
from gridllm_leaderboard.store.copying import TABLES, Page, Value
from gridllm_leaderboard.store.handed import grade_columns
from gridllm_leaderboard.store.intake import columns_of
from gridllm_leaderboard.store.spelling import read_marks
from gridllm_leaderboard.store.view import unpacked

STATES: Final = frozenset(get_args(State))

Row = Mapping[str, Value]
D = TypeVar("D", bound=BaseModel)


class Integrity:
    """Checks pages in the order in which ``copying.pages`` yields them."""

    def __init__(self, grid: str, leaderboard: str) -> None:
        """``leaderboard``: its account (hex key), which signed locks, draws and verdicts."""
        self._grid = grid
        self._leaderboard = leaderboard
        self._rounds = 0
        self._submissions: set[str] = set()
        self.roots: dict[str, str] = {}  # of models that are wanted (neither refused nor withdrawn) → submission
        self._checks: dict[str, Callable[[Row], None]] = {
            "submissions": self._submission,
            "rounds": self._round,
            "grades": self._grade,
            "reigns": self._reign,
            "lines": _lines,
        }

    @property
    def submissions(self) -> int:
        """How many came by."""
        return len(self._submissions)

    @property
    def rounds(self) -> int:
        """How many came by."""
        return self._rounds

    def check(self, page: Page) -> Page:
        """The page, once every row of it is known to be sound. Raises LeaderboardError: names the first that is not."""
        table = TABLES.get(page.table)
        if table is None:
            raise LeaderboardError(f"There is no table {page.table!r} in a leaderboard's database.")
        check = self._checks.get(page.table)
        for row in page.rows:
            if row.keys() != set(table.columns.keys()):
                raise LeaderboardError(f"A row of {page.table} has other columns than this GridLLM knows.")
            if not all(isinstance(value, str | int | float | bytes | None) for value in row.values()):
                raise LeaderboardError(f"A row of {page.table} holds what no column can.")
            try:
                if check is not None:
                    check(row)
            except (GridError, TypeError, ValueError) as error:
                name = str(next(iter(row.values())))[:16]
                raise LeaderboardError(f"Row {name} of {page.table} is not sound: {error}") from error
        return page

    def _submission(self, row: Row) -> None:
        document = self._verified(row["raw"], Submission)
        _compare(row, columns_of(_bytes(row["raw"]), document))
        if row["state"] not in STATES:
            raise ValueError(f"its state is {row['state']!r}")
        if row["withdrawal"] is not None and self._verified(row["withdrawal"], Withdrawal).submission != row["id"]:
            raise ValueError("its withdrawal is another's")
        self._submissions.add(id_of(document))
        if row["state"] not in ("refused", "withdrawn"):
            self.roots[document.root] = id_of(document)

    def _round(self, row: Row) -> None:
        self._rounds += 1
        lock = self._verified(row["lock"], Lock)
        known = self._submissions.issuperset(lock.submissions)
        if lock.round != row["number"] or lock.round != self._rounds or not known:
            raise ValueError("its lock is of another round, or of unknown submissions")
        draw = None if row["draw"] is None else self._verified(row["draw"], Draw)
        if draw is not None and draw.lock != id_of(lock):
            raise ValueError("its draw is of another lock")
        verdict = None if row["verdict"] is None else self._verified(row["verdict"], Verdict)
        if verdict is not None and (draw is None or verdict.draw != id_of(draw) or row["marks"] is None):
            raise ValueError("its verdict is of another draw, or without marks")
        if row["annulment"] is not None:
            if self._verified(row["annulment"], Annulment).lock != id_of(lock):
                raise ValueError("its annulment is of another lock")
            if verdict is not None or row["marks"] is not None:
                raise ValueError("it is annulled and judged")
        if row["marks"] is not None:
            read_marks(_bytes(row["marks"]))

    def _grade(self, row: Row) -> None:
        kind: type[Grade | Failure] = Grade if row["kind"] == "grade" else Failure
        said = self._verified(row["raw"], kind)
        _compare(row, {"id": id_of(said), "kind": kind.__name__.lower(), **grade_columns(said)})

    def _reign(self, row: Row) -> None:
        if row["submission"] not in self._submissions:
            raise ValueError("its champion is unknown")

    def _verified(self, raw: Value, kind: type[D]) -> D:
        return verify_document(_bytes(raw), kind, self._grid, self._leaderboard)


def _lines(row: Row) -> None:
    if not isinstance(row["size"], int) or not 0 <= row["size"] <= MAX_LINES_BYTES:
        raise ValueError(f"its size is {row['size']!r}")
    raw = unpacked(str(row["root"]), _bytes(row["data"]))
    if len(raw) != row["size"] or lines_root(raw) != row["root"]:
        raise ValueError("its lines have another root")


def _compare(row: Row, derived: Row) -> None:
    for name, value in derived.items():
        if row[name] != value:
            raise ValueError(f"its column {name} is not what its document says")


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a document is missing")
    return value
