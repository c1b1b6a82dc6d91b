"""What the keeper's writing thread does: transactions of many requests each, and the log's signed head."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gridllm.errors import GridError, LedgerError, NodeFault
from gridllm.ledger.log.heads import Head, sign_head, verify_head

if TYPE_CHECKING:
    from gridllm.identity.keys import Identity
    from gridllm.ledger.paper import Entry
    from gridllm.ledger.store.batch import Batch
    from gridllm.ledger.store.store import LedgerStore
    from gridllm_bootstrap.keeping.decisions import Clerk

log = logging.getLogger(__name__)

HEAD_EVERY_S: Final = 0.5
PAUSE_S: Final = 5.0  # after a transaction failed, before a head is tried again
WARN_EVERY_S: Final = 10.0
MOST_FAILURES: Final = 3  # transactions in a row; then those that wait are told so, and come again

Work = Callable[["Batch", float], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done in a transaction, whole or not at all."""

    work: Work  # with the batch, and the time; a GridError it raises before it appends anything is its answer
    entry: Entry | None = None  # what it is about, so that the batch reads it up with the others'
    log: str | None = None  # another keeper's: a transaction of its own, which any error undoes


class Writer:
    """Writes one keeper's database; all of it in one thread."""

    def __init__(self, store: LedgerStore, clerk: Clerk, identity: Identity, clock: Callable[[], float]) -> None:
        self.headless = False
        """Whether the log has grown since its head was signed."""
        self._store = store
        self._clerk = clerk
        self._identity = identity
        self._clock = clock
        self._head_at = float("-inf")  # time.monotonic(), as the next is
        self._warned_at = float("-inf")

    @property
    def head_due_s(self) -> float:
        """In how many seconds the next head may be signed."""
        return self._head_at - time.monotonic()

    def begin(self) -> None:
        """Go on from what is on disk.

        Raises:
            LedgerError: that is less than what this keeper signed before, or cannot be read.
        """
        name = self._clerk.log
        raw, size = self._store.head(name), self._store.sizes().get(name, 0)
        self.headless = True
        if raw is None:
            return
        head = verify_head(raw, self._clerk.rulebook.signed)
        if head.size > size or self._store.root(name, head.size).hex() != head.root:
            raise LedgerError(
                f"The ledger's database is not the one of which this keeper signed {head.size} entries: to go on from "
                "it would tell two histories. Restore its newest copy."
            )
        self.headless = head.size != size

    def commit(self, tasks: Sequence[Task], *, head: bool) -> list[Any]:
        """All tasks in one transaction, and the head if it is ``head``'s turn.

        One that makes the transaction fail spoils none of the others. Never raises.

        Returns:
            What each task returned, or the error that answers it.
        """
        try:
            return self._together(tasks, head=head)
        except Exception as error:  # noqa: BLE001  # answered, logged
            self._head_at = time.monotonic() + PAUSE_S
            if len(tasks) == 1:
                return [self._answer(tasks[0], error)]
            self._warn(f"A transaction for {len(tasks)} requests failed: {error}")
        answers: list[Any] = []
        failures = 0
        fault: Exception = NodeFault()
        for task in tasks:
            if failures < MOST_FAILURES:
                try:
                    answers += self._together([task], head=False)
                except Exception as error:  # noqa: BLE001  # answered, logged
                    fault = self._answer(task, error)
                    failures += 1
                else:
                    failures = 0
                    continue
            answers.append(fault)
        return answers

    def _answer(self, task: Task, error: Exception) -> Exception:
        """What whoever asked is told: the truth, but for where the database is and what the code is like inside."""
        if task.log is not None:
            return error  # asked by this keeper itself
        if isinstance(error, LedgerError):
            self._warn(f"The ledger cannot be written: {error}")
        else:
            log.error("The ledger could not be written", exc_info=error)
        return NodeFault("The keeper cannot write its books now; the fault is its own, and nothing was written.")

    def _warn(self, text: str) -> None:
        """Not more often than somebody might read it: a database that is gone fails every transaction."""
        if time.monotonic() >= self._warned_at + WARN_EVERY_S:
            self._warned_at = time.monotonic()
            log.warning("%s", text)

    def _together(self, tasks: Sequence[Task], *, head: bool) -> list[Any]:
        now_s = self._clock()
        if tasks and tasks[0].log is not None:
            with self._store.write(tasks[0].log, now_s) as batch:
                return [task.work(batch, now_s) for task in tasks]
        with self._store.write(self._clerk.log, now_s) as batch:
            size = batch.size
            batch.load([task.entry for task in tasks if task.entry is not None])
            answers = [_done(task, batch, now_s) for task in tasks]
            headless = self.headless or batch.size > size
            if headless and head:
                self._sign(batch, now_s)
        self.headless = headless and not head
        return answers

    def _sign(self, batch: Batch, now_s: float) -> None:
        said = Head(
            grid=self._clerk.rulebook.signed.grid,
            keeper=self._clerk.log,
            size=batch.size,
            root=batch.root().hex(),
            issued=int(now_s),
        )
        batch.save_head(sign_head(said, self._identity))
        self._head_at = time.monotonic() + HEAD_EVERY_S


def _done(task: Task, batch: Batch, now_s: float) -> Any:
    try:
        return task.work(batch, now_s)
    except GridError as refusal:
        return refusal
