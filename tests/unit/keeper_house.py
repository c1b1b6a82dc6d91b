"""A keeper whose database can be pulled from under it: its judgement, its signed heads and its real SQLite file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sqlalchemy import Engine, event, select

from gridllm.database.engine import reading
from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account, Ledger, apply
from gridllm.ledger.log.heads import Head, sign_head, verify_grown, verify_head
from gridllm.ledger.messages import Outcome, Wish
from gridllm.ledger.paper import Entry, Rulebook
from gridllm.ledger.store.batch import Batch
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.rows import TAB_COLUMNS, tab_values
from gridllm.ledger.store.schema import gifts, once, tabs
from gridllm.ledger.store.shelf import Shelf
from gridllm.ledger.store.store import LedgerStore
from gridllm_bootstrap.keeping.decisions import Clerk, Standing
from gridllm_bootstrap.keeping.intake import read_all
from gridllm_bootstrap.keeping.reserving import reserve
from tests.unit.spelled_books import Spelled, books_of

Crash = Literal["", "before", "after", "pulled", "pulled later"]
"""When the keeper dies: never; in the transaction before or after its SQL; in it, or right after it, by the disk."""

FILE = "ledger.db"
PAGE_BYTES = 1 << 20
_TABS = select(tabs.c.digest, *(tabs.c[name] for name in TAB_COLUMNS))
_ONCE = select(once.c.kind, once.c.subject)
_GIFTS = select(gifts.c.micro)


class PowerCut(Exception):
    """The end of a keeper, in the middle of its work."""


class House:
    """One keeper. ``crash`` says how a call ends; the next one goes on from what is on disk."""

    def __init__(self, rules: Rulebook, keeper: Identity, folder: Path) -> None:
        self.rules = rules
        self.clerk = Clerk(rules, keeper)
        self.log = self.clerk.log
        self._identity = keeper
        self._folder, self._pulled = folder, folder / "pulled"
        self._pulled.mkdir(parents=True)
        self.begin()
        self.engine: Engine = open_engine(f"sqlite:///{folder / FILE}")
        # So little is held in memory that a transaction's rows reach the file before it ends.
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA cache_size = 4"))
        self.store = LedgerStore(self.engine, starter=rules.signed.charter.economy.starter)

    def begin(self) -> None:
        """Empty books."""
        self._heads: dict[str, Head] = {}  # the last seen of each log
        self._read: dict[tuple[str, bytes], Entry] = {}
        (self._pulled / FILE).write_bytes(blank())
        self.restart()

    def restart(self) -> None:
        """Let go of all files, and go on with those that were pulled out, if any."""
        if hasattr(self, "engine"):
            self.engine.dispose()
        if any(self._pulled.iterdir()):
            for path in self._folder.glob(FILE + "*"):
                path.unlink()
            for path in self._pulled.iterdir():
                path.rename(self._folder / path.name)

    def pull(self) -> None:
        """All files as they are at this moment will be the keeper's: its machine stops here."""
        for path in self._folder.glob(FILE + "*"):
            shutil.copy(path, self._pulled)

    def take(self, raws: Sequence[bytes], standing: Standing, now_s: int, crash: Crash = "") -> list[Outcome]:
        """Statements as strangers hand them in, in one transaction; of a crash nobody hears an outcome."""
        read = read_all(self.rules, raws)
        outcomes: list[Outcome] = []

        def work(batch: Batch) -> None:
            batch.load([one for one in read if isinstance(one, Entry)])
            for one in read:
                taken = one if isinstance(one, Outcome) else self.clerk.take(batch, one, standing, now_s)
                outcomes.append(taken)

        return outcomes if self._transact(self.log, now_s, work, crash) else []

    def reserve(self, account: str, wishes: Sequence[Wish], now_s: int, crash: Crash = "") -> list[bytes]:
        """Escrows for the account's wishes. Raises a Refusal, and then nothing was changed."""
        documents: list[bytes] = []

        def work(batch: Batch) -> None:
            documents.extend(reserve(self.clerk, batch, account, wishes, now_s))

        return documents if self._transact(self.log, now_s, work, crash) else []

    def copy(self, other: House, most: int, now_s: int, crash: Crash = "") -> None:
        """The next ``most`` entries of the other's log, compared with its root."""
        size = self.store.sizes().get(other.log, 0)
        raws = other.store.entries(other.log, size, most, PAGE_BYTES)

        def work(batch: Batch) -> None:
            batch.mirror([self.rules.read(raw, other.log) for raw in raws])
            assert batch.root() == other.store.root(other.log, size + len(raws))

        if raws:
            self._transact(other.log, now_s, work, crash)

    def entries(self, log: str) -> list[Entry]:
        """Those of a log, read again from their bytes."""
        raws = self.store.entries(log, 0, 1024, PAGE_BYTES)
        for raw in raws:
            if (log, raw) not in self._read:
                self._read[log, raw] = self.rules.read(raw, log)
        return [self._read[log, raw] for raw in raws]

    def check(self, starter: int, now_s: int) -> Spelled:
        """Compare every table with what follows from the entries; returns that."""
        logs = {log: self.entries(log) for log in self.store.sizes()}
        assert len({entry.id for entry in logs.get(self.log, [])}) == len(logs.get(self.log, []))
        found = books_of((entry for entries in logs.values() for entry in entries), starter)
        folded = Ledger()
        for entries in logs.values():
            for entry in entries:
                apply(folded, entry, starter)
        # The fold has no row for a tab or account that was only looked up; the store none for what nobody named.
        assert {key: one for key, one in folded.accounts.items() if one != Account()} == found.accounts
        assert folded.tabs == found.tabs
        assert {key: one for key, one in self.store.accounts() if one != Account()} == found.accounts
        with reading(self.engine) as connection:
            stored = {bytes(digest): row for digest, *row in connection.execute(_TABS)}
            assert stored == {key.digest: [*tab_values(tab)] for key, tab in found.tabs.items()}
            seen = {(kind, bytes(subject)) for kind, subject in connection.execute(_ONCE)}
            assert seen == folded.seen
            given = connection.execute(_GIFTS).scalars().all()
            assert sum(given) == sum(tab.gift for tab in found.tabs.values())
            assert max(given, default=0) <= self.rules.signed.charter.economy.allowance
            for account in [*found.accounts][:1]:
                assert Shelf(connection, now_s).available(account) == found.available(account, now_s)
        self._check_heads(logs)
        return found

    def _check_heads(self, logs: dict[str, list[Entry]]) -> None:
        """A keeper's own head tells all of its log, and each continues the one before."""
        raw = self.store.head(self.log)
        if raw is None:
            assert not logs.get(self.log)
            return
        head = verify_head(raw, self.rules.signed)
        assert head.size == len(logs[self.log])
        assert head.root == self.store.root(self.log, head.size).hex()
        before = self._heads.get(self.log)
        if before is not None and before != head:
            verify_grown(before, head, self.store.consistency(self.log, before.size, head.size))
        self._heads[self.log] = head

    def _transact(self, log: str, now_s: int, work: Callable[[Batch], None], crash: Crash) -> bool:
        """One transaction, as the desk makes them; whether its end was told to anybody."""
        before = after = self.store.sizes().get(log, 0)
        with suppress(PowerCut):
            with self.store.write(log, now_s) as batch:
                work(batch)
                after = batch.size
                if crash == "before":
                    raise PowerCut
                if log == self.log and batch.size:
                    batch.save_head(sign_head(self._head(batch, now_s), self._identity))
                if crash in ("after", "pulled"):
                    batch.save()
                    if crash == "pulled":
                        self.pull()
                    raise PowerCut
            if crash == "pulled later":
                self.pull()
                raise PowerCut
            return True
        self.restart()
        assert self.store.sizes().get(log, 0) == (after if crash == "pulled later" else before)
        return False

    def _head(self, batch: Batch, now_s: int) -> Head:
        grid = self.rules.signed.grid
        return Head(grid=grid, keeper=self.log, size=batch.size, root=batch.root().hex(), issued=now_s)


@cache
def blank() -> bytes:
    """A database that was migrated and holds nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "blank.db"
        engine = open_engine(f"sqlite:///{path}")
        migrate(engine)
        engine.dispose()
        return path.read_bytes()
