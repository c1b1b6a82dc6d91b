"""One transaction that adds to a log and carries its entries into the books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, func, insert, select, text, update

from gridllm.ledger.fold import Books, apply
from gridllm.ledger.log.tiles import Tiles
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow, OnTab
from gridllm.ledger.store.kept_tiles import KeptTiles
from gridllm.ledger.store.schema import entries, evidence, logs
from gridllm.ledger.store.seals import parties, seal
from gridllm.ledger.store.shelf import Shelf
from gridllm.merkle import leaf_digest

DAY_S: Final = 86400
_WRITER_LOCK: Final = int.from_bytes(b"keepers")  # PostgreSQL's locks of this kind are numbers


class GiftBooks(Books, Protocol):
    """Books that also know how much of the newcomers' allowance was given to whom on which day."""

    def give(self, account: str, day: int, micro: int) -> None:
        """Note more as given on that day (since 1970, UTC)."""
        ...


def take(books: GiftBooks, entry: Entry, starter: int) -> bool:
    """``fold.apply``, and the allowance: what a gift adds to its tab counts for the day it was signed.

    An account's escrows stand in one log, its home's, and are taken in that order: so all count the same.
    """
    said = entry.statement
    gift = books.tab(said.tab).gift if isinstance(said, Escrow) and said.gift else 0
    changed = apply(books, entry, starter)
    if isinstance(said, Escrow) and said.gift and said.micro > gift:
        books.give(said.payer, said.issued // DAY_S, said.micro - gift)
    return changed


class Batch(Shelf):
    """What ``LedgerStore.write`` lends: books to look into, and a log to append to. Nothing is kept if it raises.

    ``tab`` and ``account`` are for looking; ``append`` and ``mirror`` change them.
    """

    def __init__(self, connection: Connection, log: str, now_s: float, starter: int) -> None:
        if connection.dialect.name == "postgresql":  # as BEGIN IMMEDIATE does on SQLite: one writer at a time
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})
        super().__init__(connection, now_s)
        self._starter = starter
        self._keeper = log
        row = connection.execute(select(logs.c.number, logs.c.size).where(logs.c.keeper == log)).one_or_none()
        self._log, self._size = (0, 0) if row is None else (int(row[0]), int(row[1]))
        self._at = max(int(now_s), self.counters.at)
        self._rows: list[dict[str, Any]] = []
        self._digests: list[bytes] = []
        self._kept: KeptTiles | None = None

    @property
    def size(self) -> int:
        """Entries of the log, those of this batch included."""
        return self._size

    def append(self, entry: Entry) -> bool:
        """Take a statement in; it stands in the log only if it changed something: whether it did."""
        if not self._take(entry):
            return False
        self._put(entry)
        return True

    def mirror(self, coming: Sequence[Entry]) -> None:
        """Take in the next entries of another keeper's log: all of them stand in it, whatever they change."""
        self.load(coming)
        for entry in coming:
            self._take(entry)
            self._put(entry)

    def root(self) -> bytes:
        """The log's root with the entries of this batch, 32 bytes: to be compared before it is too late."""
        return self._grow().root(self._size)

    def head(self) -> bytes | None:
        """The log's newest signed head that was saved before this batch."""
        raw = self._connection.execute(select(logs.c.head).where(logs.c.keeper == self._keeper)).scalar()
        return None if raw is None else bytes(raw)

    def save_head(self, raw: bytes) -> None:
        """Keep this as the log's newest signed head, in this same transaction."""
        self._number_log()
        values = {"head": raw, "seal": seal(self._log, self._keeper, raw)}
        self._connection.execute(update(logs).where(logs.c.number == self._log).values(values))

    def save_evidence(self, raw: bytes) -> None:
        """Keep evidence against a keeper, once, in this same transaction."""
        add_evidence(self._connection, raw)

    def save(self) -> None:
        """Write everything; the transaction's end makes it last."""
        if self._rows:
            self._grow()
            self._connection.execute(insert(entries), self._rows)
            self._connection.execute(update(logs).where(logs.c.number == self._log).values(size=self._size))
            self._rows = []
        if self._kept is not None:
            self._kept.save()
        super().save()

    def _take(self, entry: Entry) -> bool:
        said = entry.statement
        if not isinstance(said, OnTab):
            return take(self, entry, self._starter)
        tab = self.tab(said.tab)
        held = tab.held(self._now_s)
        changed = take(self, entry, self._starter)
        self.held_changed(said.payer, tab.held(self._now_s) - held)
        return changed

    def _put(self, entry: Entry) -> None:
        """At the log's end; whom and what the entry names has rows from now on."""
        log = self._number_log()
        payer, payee = parties(entry.statement)
        payer_number = None if payer is None else self.number_account(payer)
        payee_number = self.number_account(payee)
        if isinstance(entry.statement, OnTab):
            self.number_tab(entry.statement.tab)
        self.counters.entries += 1
        row = {
            "number": self.counters.entries,
            "log": log,
            "place": self._size,
            "payer": payer_number,
            "payee": payee_number,
            "at": self._at,
            "raw": entry.raw,
        }
        self._rows.append(row | {"seal": seal(*row.values())})
        self._digests.append(leaf_digest(entry.raw))
        self._size += 1

    def _number_log(self) -> int:
        if not self._log:
            self.counters.logs += 1
            self._log = self.counters.logs
            sealed = seal(self._log, self._keeper, None)
            row = {"number": self._log, "keeper": self._keeper, "size": 0, "head": None, "seal": sealed}
            self._connection.execute(insert(logs), row)
        return self._log

    def _grow(self) -> Tiles:
        """The log's tiles with everything appended so far."""
        if self._kept is None:
            self._kept = KeptTiles(self._connection, self._log)
        tree = Tiles(self._kept)
        if self._digests:
            tree.append(self._digests)
            self._digests = []
        return tree


def add_evidence(connection: Connection, raw: bytes) -> None:
    """Keep evidence against a keeper, once."""
    if connection.execute(select(evidence.c.number).where(evidence.c.raw == raw)).first() is None:
        number = connection.execute(select(func.coalesce(func.max(evidence.c.number), 0))).scalar_one() + 1
        connection.execute(insert(evidence), {"number": number, "raw": raw, "seal": seal(number, raw)})
