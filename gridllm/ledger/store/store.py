"""The ledger in its database: logs of all keepers, and the books that follow from them.

Everything that belongs together is written in one transaction, and nothing is kept in memory between two: opening costs
nothing, and after ``kill -9`` the next transaction goes on from what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from sqlalchemy import Engine, select

from gridllm.database.engine import asking, reading, writing
from gridllm.errors import LedgerError
from gridllm.ledger.fold import Account, Tab
from gridllm.ledger.log.tiles import MemoryTiles, Tiles, tiles_of
from gridllm.ledger.log.tree import NodeSource, consistency_proof, inclusion_proof, root_of
from gridllm.ledger.messages import HistoryRow
from gridllm.ledger.paper import Rulebook
from gridllm.ledger.statements import TabKey
from gridllm.ledger.store.batch import Batch, add_evidence
from gridllm.ledger.store.check import Progress, check
from gridllm.ledger.store.kept_tiles import KeptTiles, read_tiles
from gridllm.ledger.store.reads import account_page, entry_page, history_page
from gridllm.ledger.store.rows import held_between, held_by, standing_of
from gridllm.ledger.store.schema import evidence, logs
from gridllm.ledger.store.shelf import Shelf

T = TypeVar("T")


class LedgerStore:
    """One keeper's database. Its calls block: its owner makes them all from one worker thread."""

    def __init__(self, engine: Engine, *, starter: int) -> None:
        """``engine``: of ``open_engine``, after ``migrate``. ``starter``: the charter's, micro-credits."""
        self._engine = engine
        self._starter = starter

    @contextmanager
    def write(self, log: str, now_s: float) -> Iterator[Batch]:
        """A transaction that may append to ``log`` (its keeper's hex key): on disk when the block ends, or never was.

        Raises:
            LedgerError: the database cannot be written.
        """
        with writing(self._engine) as connection:
            batch = Batch(connection, log, now_s, self._starter)
            yield batch
            batch.save()

    def account(self, key: str) -> Account:
        """The account's sums; of one that nobody mentioned, zeros."""
        with self._shelf() as shelf:
            return shelf.account(key)

    def accounts(self, after: str = "", limit: int = 1024) -> list[tuple[str, Account]]:
        """Accounts in the order of their keys."""
        with reading(self._engine) as connection:
            return account_page(connection, after, limit)

    def escrowed(self, account: str, now_s: float) -> int:
        """What of the account's balance is set aside then, micro-credits."""
        with reading(self._engine) as connection:
            return held_by(connection, account, now_s)

    def standing(self, key: str, now_s: float, day: int) -> tuple[Account, int, int]:
        """The account's sums, what it has set aside then, and what it was given of that day's allowance, at once."""
        with asking(self._engine) as connection:
            return standing_of(connection, key, now_s, day)

    def escrows(self, after: str, last: str, now_s: float) -> dict[str, int]:
        """``escrowed`` of the accounts between two keys, the second included; of those that set something aside."""
        with reading(self._engine) as connection:
            return held_between(connection, after, last, now_s)

    def tab(self, key: TabKey) -> Tab | None:
        """The tab; None: no statement named it."""
        with self._shelf() as shelf:
            return shelf.tab(key) if shelf.has_tab(key) else None

    def enrolled(self, account: str) -> bool:
        """Whether the books hold a certificate to serve of that account."""
        with self._shelf() as shelf:
            return shelf.enrolled(account)

    def gifted(self, account: str, day: int) -> int:
        """What the account was given of the newcomers' allowance on that day (since 1970, UTC), micro-credits."""
        with self._shelf() as shelf:
            return shelf.gifted(account, day)

    def history(self, account: str, since: int = 0, before: int | None = None, limit: int = 100) -> list[HistoryRow]:
        """Entries that name the account, newest first; fewer than ``limit``: there are no more.

        Args:
            since: Unix time of acceptance or mirroring.
            before: ``cursor`` of the last row of the page before.
        """
        with asking(self._engine) as connection:
            return history_page(connection, account, since, before, limit)

    def entries(self, log: str, first: int, limit: int, max_bytes: int) -> list[bytes]:
        """Entries of a log from ``first`` on: no more than ``limit``, nor than fit, but one if there is one."""
        with asking(self._engine) as connection:
            return entry_page(connection, log, first, limit, max_bytes)

    def sizes(self) -> dict[str, int]:
        """How many entries of each log are held, by its keeper's hex key."""
        with asking(self._engine) as connection:
            return {keeper: int(size) for keeper, size in connection.execute(select(logs.c.keeper, logs.c.size))}

    def extent(self) -> tuple[int, int]:
        """How many accounts, and how many entries of all logs, are held."""
        with self._shelf() as shelf:
            return shelf.counters.accounts, shelf.counters.entries

    def root(self, log: str, size: int) -> bytes:
        """The root of the log's first ``size`` entries. Raises LedgerError: it has fewer."""
        return self._prove(log, partial(root_of, size))

    def inclusion(self, log: str, index: int, size: int) -> list[bytes]:
        """The proof that an entry is among the log's first ``size``. Raises LedgerError: it has fewer."""
        return self._prove(log, partial(inclusion_proof, index, size))

    def consistency(self, log: str, first: int, second: int) -> list[bytes]:
        """The proof that the log of ``first`` entries is the beginning of that of ``second``.

        Raises:
            LedgerError: it has fewer.
        """
        return self._prove(log, partial(consistency_proof, first, second))

    def head(self, log: str) -> bytes | None:
        """The log's newest signed head that was saved."""
        with asking(self._engine) as connection:
            head = connection.execute(select(logs.c.head).where(logs.c.keeper == log)).scalar()
            return None if head is None else bytes(head)

    def save_head(self, log: str, raw: bytes) -> None:
        """Keep ``raw`` as the log's newest signed head; the entries it speaks of are held already."""
        with self.write(log, 0) as batch:
            batch.save_head(raw)

    def evidence(self) -> list[bytes]:
        """What was saved against keepers, oldest first."""
        with reading(self._engine) as connection:
            return [
                bytes(raw) for raw in connection.execute(select(evidence.c.raw).order_by(evidence.c.number)).scalars()
            ]

    def save_evidence(self, raw: bytes) -> None:
        """Keep evidence against a keeper, once."""
        with writing(self._engine) as connection:
            add_evidence(connection, raw)

    def check(self, rulebook: Rulebook, progress: Progress | None = None) -> None:
        """Verify every entry, make every row of every table again, and compare.

        Raises:
            LedgerError: names the first wrong row.
        """
        check(self._engine, rulebook, progress)

    @contextmanager
    def tree(self, log: str) -> Iterator[Tiles]:
        """The log's hashes, for several questions about one state of it. Raises LedgerError: nothing of it is held."""
        with reading(self._engine) as connection:
            number = connection.execute(select(logs.c.number).where(logs.c.keeper == log)).scalar()
            if number is None:
                raise _unheld(log)
            yield Tiles(KeptTiles(connection, int(number)))

    def _prove(self, log: str, question: Callable[[NodeSource], T]) -> T:
        """What follows from the log's hashes."""
        places = tiles_of(question)  # raises where there can be no such proof
        with asking(self._engine) as connection:
            held = read_tiles(connection, log, places) if places else MemoryTiles()
        if not held.tiles and log not in self.sizes():
            raise _unheld(log)
        return question(Tiles(held).node)

    @contextmanager
    def _shelf(self) -> Iterator[Shelf]:
        with reading(self._engine) as connection:
            yield Shelf(connection, 0)


def _unheld(log: str) -> LedgerError:
    return LedgerError(f"This keeper holds nothing of the log of {log[:16]}….")
