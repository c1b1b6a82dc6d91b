"""Reading entries of a log on all processors: signatures, prices, whose home it is; what a worker tells is small."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from gridllm.charter.document import SignedCharter, verify_charter
from gridllm.errors import LedgerError
from gridllm.ledger.paper import Entry, Rulebook, Statement
from gridllm.ledger.statements import Escrow, OnTab, Release, Voucher
from gridllm.merkle import leaf_digest

WORTH_PROCESSES: Final = 20_000  # entries: below, to start processes takes longer than to read on in this one
MOST_PROCESSES: Final = 16

_ON_TAB: Final[tuple[type[OnTab], ...]] = (Voucher, Escrow, Release)  # nearly all there is: sent without their names
_FIELDS: Final = {kind: tuple(kind.model_fields) for kind in _ON_TAB}

_rules: Rulebook | None = None  # of a worker process


class Batch(NamedTuple):
    """What a worker tells of some entries in a row; of those after a wrong one, nothing."""

    digests: list[bytes]  # of the leaves
    told: list[tuple[Any, ...]]  # see ``_tell``
    wrong: str = ""  # about the entry after those


class Readers:
    """Workers, for the time of a ``with`` block."""

    def __init__(
        self, signed: SignedCharter, blocks: Mapping[str, Sequence[int]], *, entries: int, workers: int | None = None
    ) -> None:
        """``entries``: about how many there are to read; ``workers``: 0 reads in a thread of this process."""
        if workers is None:
            workers = 0 if entries < WORTH_PROCESSES else min(os.cpu_count() or 1, MOST_PROCESSES)
        self.depth = 2 * workers + 1
        """Batches to hand in before the first is asked for."""
        self._executor: Executor
        if workers:
            self._executor = ProcessPoolExecutor(
                workers,
                get_context("spawn"),
                _start,
                (signed.raw, {model: tuple(sizes) for model, sizes in blocks.items()}),
            )
            self._read = _read_here
        else:
            self._executor = ThreadPoolExecutor(1)
            self._read = partial(read_batch, Rulebook(signed, blocks))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=kind is None, cancel_futures=True)

    def hand_in(self, log: str, raws: Sequence[bytes]) -> asyncio.Future[Batch]:
        """Have entries of ``log`` read."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._read, log, raws)


async def result_of(reading: asyncio.Future[Batch]) -> Batch:
    """What ``hand_in`` promised.

    Raises:
        LedgerError: a worker process was killed.
    """
    try:
        return await reading
    except BrokenExecutor as error:
        raise LedgerError(
            "A process that checked the ledger's entries was killed; is there too little memory?"
        ) from error


def read_batch(rules: Rulebook, log: str, raws: Sequence[bytes]) -> Batch:
    """Check entries that stand in ``log`` one after the other."""
    batch = Batch([], [])
    names: dict[str, str] = {}
    for raw in raws:
        try:
            entry = rules.read(raw, log)
        except LedgerError as error:
            return batch._replace(wrong=str(error))
        batch.digests.append(leaf_digest(raw))
        batch.told.append(_tell(entry, names))
    return batch


def _tell(entry: Entry, names: dict[str, str]) -> tuple[Any, ...]:
    """What the fold needs of an entry, small and quick to send: a pydantic object takes ten times as long."""
    said = entry.statement
    for number, kind in enumerate(_ON_TAB):
        if type(said) is kind:
            values = [vars(said)[name] for name in _FIELDS[kind]]
            return number, *(names.setdefault(one, one) if isinstance(one, str) else one for one in values)
    return -1, said, entry.id


def entry_of(told: tuple[Any, ...]) -> Entry:
    """The entry again, without its bytes; and without its id, where the fold has no use for it."""
    number, *values = told
    if number < 0:
        statement, subject = values
        return Entry(b"", statement, subject)
    kind = _ON_TAB[number]
    said: Statement = kind.model_construct(None, **dict(zip(_FIELDS[kind], values, strict=True)))
    return Entry(b"", said, b"")


def _start(charter: bytes, blocks: Mapping[str, Sequence[int]]) -> None:
    """In a worker, once."""
    global _rules
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, and the command its workers
    _rules = Rulebook(verify_charter(charter), blocks)


def _read_here(log: str, raws: Sequence[bytes]) -> Batch:
    if _rules is None:
        raise LedgerError("A worker of the audit was asked before it knew the rules.")
    return read_batch(_rules, log, raws)
