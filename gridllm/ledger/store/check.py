"""Checks a ledger's database against itself: every statement, and every row that follows from them.

What it cannot see: entries that are missing from a log's end together with the head that promised them, as in a
database that was put back to an older state. The other keepers, who hold these entries and later heads, can.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gridllm.database.engine import reading
from gridllm.errors import LedgerError
from gridllm.ledger.log.heads import verify_head
from gridllm.ledger.log.tiles import MemoryTiles, Tiles
from gridllm.ledger.paper import Entry, Rulebook
from gridllm.ledger.readers import Read, Readers, entry_of, result_of
from gridllm.ledger.store.comparison import AT_ONCE, Row, compare, read_rows, wrong_row
from gridllm.ledger.store.refold import Refold
from gridllm.ledger.store.schema import accounts, entries, evidence, gifts, logs, once, tabs, tiles
from gridllm.ledger.store.seals import seal
from gridllm.ledger.store.soundness import check_file

Progress = Callable[[int, int], None]
"""Told how many entries of how many were checked."""


def check(engine: Engine, rulebook: Rulebook, progress: Progress | None = None) -> None:
    """Read every entry of every log, verify it, fold it in, and compare every row of every table.

    Sees one state of the database, whatever a keeper writes meanwhile. Uses all processors where there is much to do.

    Raises:
        LedgerError: names the first wrong row.
    """
    try:
        check_file(engine)
        with reading(engine) as connection:
            _Check(connection, rulebook, progress or (lambda done, total: None)).run()
    except (SQLAlchemyError, UnicodeDecodeError) as error:  # the latter: a name in SQLite's file is no text
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LedgerError(f"The ledger's database is damaged: it cannot be read ({reason}).") from error


@dataclass(slots=True)
class _Log:
    """One keeper's log, as it is made again."""

    number: int
    keeper: str
    size: int  # as table logs says
    head: bytes | None
    kept: MemoryTiles = field(default_factory=MemoryTiles)
    count: int = 0

    @property
    def tree(self) -> Tiles:
        """Over the entries read so far."""
        return Tiles(self.kept)


class _Check:
    def __init__(self, connection: Connection, rulebook: Rulebook, progress: Progress) -> None:
        self._connection = connection
        self._rules = rulebook
        self._progress = progress
        self._books = Refold(rulebook.signed.charter.economy.starter)
        self._logs = {log.number: log for log in self._read_logs()}
        self._at = 0
        self._done = 0
        self._wrong: LedgerError | None = None

    def run(self) -> None:
        """Everything, in the order of the tables' dependence."""
        self._check_evidence()
        self._check_entries()
        for log in self._logs.values():
            self._check_log(log)
        for table, wanted in (
            (accounts, self._books.account_rows()),
            (tabs, self._books.tab_rows()),
            (once, self._books.once_rows()),
            (gifts, self._books.gift_rows()),
            (tiles, self._tile_rows()),
        ):
            compare(table, read_rows(self._connection, table), wanted)

    def _read_logs(self) -> Iterator[_Log]:
        for row in read_rows(self._connection, logs):
            number, keeper, size, head, sealed = row
            if sealed != seal(number, keeper, head):
                raise wrong_row(logs, row, "its values are not those that were written")
            yield _Log(number, keeper, size, head)

    def _check_evidence(self) -> None:
        for row in read_rows(self._connection, evidence):
            if row[-1] != seal(*row[:-1]):
                raise wrong_row(evidence, row, "its values are not those that were written")

    def _check_entries(self) -> None:
        total = sum(log.size for log in self._logs.values())
        ahead: deque[_Page] = deque()  # handed in to the readers
        with Readers(self._rules, entries=total) as readers:
            for rows in self._pages():
                ahead.append(_hand_in(readers, rows, self._logs))
                if len(ahead) == readers.depth:
                    self._take(ahead.popleft(), total)
            while ahead:
                self._take(ahead.popleft(), total)
        if self._wrong is not None:
            raise self._wrong

    def _pages(self) -> Iterator[list[Row]]:
        """Table ``entries`` up to its first row that is not as it was written; ``_wrong`` then tells."""
        page: list[Row] = []
        try:
            for place, row in enumerate(read_rows(self._connection, entries), 1):
                self._check_seal(place, row)
                page.append(row)
                if len(page) == AT_ONCE:
                    yield page
                    page = []
        except LedgerError as error:
            self._wrong = error
        yield page

    def _check_seal(self, place: int, row: Row) -> None:
        if row[-1] != seal(*row[:-1]):
            raise wrong_row(entries, row, "its values are not those that were written")
        if row[0] != place:
            raise wrong_row(entries, (place,), "the row is missing")
        if row[1] not in self._logs:
            raise wrong_row(entries, row, f"log is {row[1]}, which table logs does not have")

    def _take(self, page: _Page, total: int) -> None:
        """Fold a page in, in the order of its rows, whichever logs they are of."""
        read = {number: result_of(future) for number, future in page.read.items()}
        told = {number: iter(one.told) for number, one in read.items()}
        for row in page.rows:
            log = self._logs[row[1]]
            statement = next(told[log.number], None)
            if statement is None:
                raise wrong_row(entries, row, read[log.number].wrong)
            self._take_entry(row, log, entry_of(statement))
        for number, one in read.items():
            self._logs[number].tree.append(one.digests)
        self._done += len(page.rows)
        self._progress(self._done, total)

    def _take_entry(self, row: Row, log: _Log, entry: Entry) -> None:
        number, *_, at, raw, sealed = row
        due = number, log.number, log.count, *self._books.take(entry), max(at, self._at), raw, sealed
        compare(entries, [row], [due])
        log.count += 1
        self._at = at

    def _check_log(self, log: _Log) -> None:
        """Its size and its signed head against its entries."""
        row = log.number, log.keeper, log.size, log.head
        if log.size != log.count:
            raise wrong_row(logs, row, f"size is {log.size}, and there are {log.count} entries")
        if log.head is None:
            return
        try:
            head = verify_head(log.head, self._rules.signed)
        except LedgerError as error:
            raise wrong_row(logs, row, str(error)) from error
        if head.keeper != log.keeper:
            raise wrong_row(logs, row, f"its head is of the log of {head.keeper}")
        if head.size > log.count:
            raise wrong_row(logs, row, f"its head is of {head.size} entries, and there are {log.count}")
        if head.root != log.tree.root(head.size).hex():
            raise wrong_row(logs, row, f"its head of {head.size} entries has another root than these entries")

    def _tile_rows(self) -> Iterator[Row]:
        for log in self._logs.values():
            for (level, place), hashes in sorted(log.kept.tiles.items()):
                yield log.number, level, place, hashes


@dataclass(slots=True)
class _Page:
    """Rows of table ``entries``, and by log what readers make of them."""

    rows: list[Row]
    read: dict[int, Future[Read]]


def _hand_in(readers: Readers, rows: list[Row], by_number: Mapping[int, _Log]) -> _Page:
    raws: dict[int, list[bytes]] = defaultdict(list)
    for row in rows:
        raws[row[1]].append(row[6])
    return _Page(rows, {number: readers.hand_in(by_number[number].keeper, some) for number, some in raws.items()})
