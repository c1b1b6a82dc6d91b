"""Verifying entries on all processors: signatures, prices, whose home it is. What a worker tells is small."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from gridllm.errors import LedgerError, UnknownModel
from gridllm.ledger.paper import Entry, Rulebook
from gridllm.ledger.statements import Escrow, OnTab, Release, Voucher
from gridllm.merkle import leaf_digest

WORTH_PROCESSES: Final = 20_000  # entries: below, to start processes takes longer than to read on in this one
MOST_PROCESSES: Final = 16

_ON_TAB: Final[tuple[type[OnTab], ...]] = (Voucher, Escrow, Release)  # nearly all there is: sent without their names
_FIELDS: Final = {kind: tuple(kind.model_fields) for kind in _ON_TAB}

_rules: Rulebook | None = None  # of a worker process


class Read(NamedTuple):
    """What is told of some entries in a row; of those from a wrong one on, nothing."""

    digests: list[bytes]  # of the leaves
    told: list[tuple[Any, ...]]  # for ``entry_of``
    wrong: str = ""  # about the entry after those
    unknown: str = ""  # root of the model that it is of, where nothing else can be said about it: see ``Readers.learn``


class Readers:
    """Workers, for the time of a ``with`` block."""

    def __init__(self, rules: Rulebook, *, entries: int, workers: int | None = None) -> None:
        """``entries``: about how many there are to read; ``workers``: 0 reads in a thread of this process."""
        if workers is None:
            workers = 0 if entries < WORTH_PROCESSES else min(os.cpu_count() or 1, MOST_PROCESSES)
        self.depth = 2 * workers + 1
        """How many pages to hand in before the first is asked for."""
        self._rules, self._workers = rules, workers
        self._executor: Executor = self._pool() if workers else ThreadPoolExecutor(1)
        self._read = _read_here if workers else partial(read, rules)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def learn(self, root: str, blocks: Sequence[int]) -> None:
        """From now on the model of that root is known; what was handed in before is read without it."""
        self._rules.blocks = {**self._rules.blocks, root: blocks}
        if self._workers:
            before, self._executor = self._executor, self._pool()
            before.shutdown(wait=False)

    def knows(self, root: str) -> bool:
        """Whether what is handed in now is read with the model of that root."""
        return root in self._rules.blocks

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, get_context("spawn"), _start, (self._rules,))

    def hand_in(self, log: str, raws: Sequence[bytes]) -> Future[Read]:
        """Have entries read that stand in the log of that keeper (hex key) one after the other."""
        return self._executor.submit(self._read, log, raws)


def result_of(reading: Future[Read]) -> Read:
    """What ``hand_in`` promised.

    Raises:
        LedgerError: a worker process was killed.
    """
    try:
        return reading.result()
    except BrokenExecutor as error:
        raise LedgerError("A process that verified entries was killed; is there too little memory?") from error


def read(rules: Rulebook, log: str, raws: Sequence[bytes]) -> Read:
    """Verify entries that stand in ``log``."""
    digests: list[bytes] = []
    told: list[tuple[Any, ...]] = []
    names: dict[str, str] = {}
    for raw in raws:
        try:
            told.append(_tell(rules.read(raw, log), names))
        except UnknownModel as error:
            return Read(digests, told, str(error), error.root)
        except LedgerError as error:
            return Read(digests, told, str(error))
        digests.append(leaf_digest(raw))
    return Read(digests, told)


def entry_of(told: tuple[Any, ...]) -> Entry:
    """The entry again, without its bytes; and without its id, where the fold has no use for it."""
    number, *values = told
    if number < 0:
        statement, subject = values
        return Entry(b"", statement, subject)
    kind = _ON_TAB[number]
    said: Any = kind.model_construct(None, **dict(zip(_FIELDS[kind], values, strict=True)))
    return Entry(b"", said, b"")


def _tell(entry: Entry, names: dict[str, str]) -> tuple[Any, ...]:
    """What the fold needs of an entry: to send a statement as it is takes ten times as long."""
    said = entry.statement
    for number, kind in enumerate(_ON_TAB):
        if type(said) is kind:
            values = vars(said)
            told = (values[name] for name in _FIELDS[kind])
            # one object for equal names, which is then sent once
            return number, *(names.setdefault(one, one) if isinstance(one, str) else one for one in told)
    return -1, said, entry.id


def _start(rules: Rulebook) -> None:
    """In a worker, once."""
    global _rules
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, and the command its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _rules = rules


def _end_with_parent() -> None:
    """Whoever started this worker may end without a word: by Ctrl-C, or killed. It would wait for entries for ever."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _read_here(log: str, raws: Sequence[bytes]) -> Read:
    if _rules is None:
        raise LedgerError("A worker was handed entries before it knew the rules.")
    return read(_rules, log, raws)
