"""The books made again from the statements alone, with the row numbers that the store must have given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from gridllm.ledger.fold import Account, Ledger, Tab
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import TabKey
from gridllm.ledger.store.batch import take
from gridllm.ledger.store.rows import account_values, tab_values
from gridllm.ledger.store.seals import parties

Row = tuple[Any, ...]


class Refold(Ledger):
    """Books in memory; after all entries, what each table must hold, in the order of its key."""

    def __init__(self, starter: int) -> None:
        super().__init__()
        self._starter = starter
        self._numbers: dict[str, int] = {}  # accounts.number
        self._gifts: dict[tuple[str, int], int] = {}

    def take(self, entry: Entry) -> tuple[int | None, int]:
        """Fold one entry in: the numbers of the accounts that it names."""
        payer, payee = parties(entry.statement)
        numbers = None if payer is None else self._number(payer), self._number(payee)
        take(self, entry, self._starter)
        return numbers

    def tab(self, key: TabKey) -> Tab:
        """See ``Ledger``. Keys are alike in most of their parts, which are held once."""
        found = self.tabs.get(key)
        if found is None:
            session, *names, start, end = key
            payer, payee, model = (sys.intern(str(name)) for name in names)
            found = self.tabs[TabKey(session, payer, payee, model, start, end)] = Tab()
        return found

    def give(self, account: str, day: int, micro: int) -> None:
        """See ``GiftBooks``."""
        self._gifts[account, day] = self._gifts.get((account, day), 0) + micro

    def account_rows(self) -> Iterator[Row]:
        """Of table ``accounts``."""
        for key, number in self._numbers.items():
            yield number, key, *account_values(self.accounts.get(key) or Account())

    def tab_rows(self) -> Iterator[Row]:
        """Of table ``tabs``."""
        for number, (key, tab) in enumerate(self.tabs.items(), 1):
            yield number, key.digest, self._numbers[key.payer], *tab_values(tab)

    def once_rows(self) -> Iterator[Row]:
        """Of table ``once``."""
        yield from sorted((subject, kind) for kind, subject in self.seen)

    def gift_rows(self) -> Iterator[Row]:
        """Of table ``gifts``."""
        yield from sorted((self._numbers[account], day, micro) for (account, day), micro in self._gifts.items())

    def _number(self, account: str) -> int:
        return self._numbers.setdefault(sys.intern(account), len(self._numbers) + 1)
