"""The keeper's desk: many ask at once, one thread writes, and nobody is answered before it is on disk.

All requests that wait when a transaction begins go into it together: one flush to disk for all of them. Signatures are
verified before, in a thread of its own; queries run beside it and see the last transaction that ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gridllm.errors import Draining, Full, GridError
from gridllm.ledger.log.heads import verify_head
from gridllm.ledger.messages import Outcome, Wish
from gridllm_bootstrap.keeping.decisions import MAX_TEXT_CHARS, Clerk
from gridllm_bootstrap.keeping.intake import read_all, standing_of
from gridllm_bootstrap.keeping.reserving import reserve
from gridllm_bootstrap.keeping.turns import Answer, Job, Turns
from gridllm_bootstrap.keeping.writing import Task, Work, Writer

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.identity.keys import Identity
    from gridllm.ledger.paper import Entry, Rulebook
    from gridllm.ledger.store.batch import Batch
    from gridllm.ledger.store.store import LedgerStore

MOST_WAITING: Final = 8192  # statements; some seconds' work; escrows may be half of them
READ_TOGETHER: Final = 32  # statements verified before another caller has its turn
READERS: Final = 2  # queries at once
HEAD_AGAIN_S: Final = 2.0  # a log that does not grow is signed anew so often at most

T = TypeVar("T")


class Keeper:
    """One keeper's books while it is on line: ``async with Keeper(…) as keeper``."""

    def __init__(
        self,
        store: LedgerStore,
        rulebook: Rulebook,
        identity: Identity,
        board: NoticeBoard,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            store: on an engine that was migrated, which the caller disposes of afterwards.
            identity: a maintainer's key that the charter lets keep books.
            board: tells who is revoked, and whether certificates are asked for.
        """
        self.clerk = Clerk(rulebook, identity)
        self.identity = identity
        self.clock = clock
        """Unix time, seconds."""
        self._store = store
        self._board = board
        self._standing = standing_of(board)
        self._writer = Writer(store, self.clerk, identity, clock)
        self._turns = Turns()
        self._news = asyncio.Event()
        self._waiting = 0  # statements and other requests that are verified, wait or are written
        self._closing = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises LedgerError: the books are not those that this keeper signed, or cannot be used."""
        async with AsyncExitStack() as stack:
            self._writing, self._checking, self._reading = (
                _pool(stack, name, threads) for name, threads in (("write", 1), ("check", 1), ("read", READERS))
            )
            stack.callback(self._board.listen(self._notice))
            await _in(self._writing, self._writer.begin)
            self._running = asyncio.create_task(self._run())
            stack.push_async_callback(self._finish)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What waits is written still, and the head is signed."""
        await self._stack.aclose()

    @property
    def log(self) -> str:
        """The keeper's name, and its log's: its key in hex."""
        return self.clerk.log

    async def failed(self) -> None:
        """Wait for the desk's end before its time, and raise what ended it."""
        await asyncio.shield(self._running)

    async def submit(self, raws: Sequence[bytes]) -> list[Outcome]:
        """What became of each statement; what is accepted is on disk.

        Raises:
            Full, Draining: the keeper takes no more now.
        """
        self._admit(len(raws))
        answers: list[Outcome | Answer] = []
        queued = 0
        try:
            for start in range(0, len(raws), READ_TOGETHER):
                some = raws[start : start + READ_TOGETHER]
                for read in await _in(self._checking, read_all, self.clerk.rulebook, some):
                    if isinstance(read, Outcome):
                        answers.append(read)
                    else:
                        answers.append(self._queue(Task(self._taking(read), read)))
                        queued += 1
        finally:
            self._waiting -= len(raws) - queued
            self._news.set()
        return [one if isinstance(one, Outcome) else await _outcome(one) for one in answers]

    async def escrows(self, account: str, wishes: Sequence[Wish]) -> list[bytes]:
        """Escrows for all wishes of an account, whose delegation the caller has verified; on disk.

        Raises:
            Insufficient, NotHome, BadPayment, Malformed: none is set aside.
            Full, Draining: the keeper takes no more now.
        """
        weight = max(1, len(wishes))
        self._admit(weight, escrows=True)

        def work(batch: Batch, now_s: float) -> list[bytes]:
            return reserve(self.clerk, batch, account, wishes, now_s)

        made: list[bytes] = await self._queue(Task(work), weight, escrows=True)
        return made

    async def write(self, log: str, work: Callable[[Batch], T]) -> T:
        """Run ``work`` in a transaction of its own that may append to ``log``, another keeper's; on disk afterwards.

        Raises:
            Full, Draining: the keeper takes no more now; and what ``work`` raises, which undoes all of it.
        """
        self._admit(1)
        done: T = await self._queue(Task(lambda batch, _: work(batch), log=log))
        return done

    async def want_head(self, after: int) -> None:
        """Sign the log anew, though it has not grown, if its newest head is not later than ``after`` (Unix time).

        It may be once in ``HEAD_AGAIN_S``, whoever asks; ask again to see it.
        """
        raw = await self.read(lambda store: store.head(self.log))
        issued = 0 if raw is None else verify_head(raw, self.clerk.rulebook.signed).issued
        if issued <= after < int(self.clock()) and self.clock() - issued >= HEAD_AGAIN_S:
            self._writer.headless = True  # should the writing thread take it back just now, the asker comes again
            self._news.set()

    async def read(self, work: Callable[[LedgerStore], T]) -> T:
        """Run queries in a thread of their own, beside whatever is written."""
        return await _in(self._reading, work, self._store)

    def _admit(self, count: int, *, escrows: bool = False) -> None:
        if self._closing:
            raise Draining("This keeper is about to stop; ask again in a few seconds.")
        crowded = escrows and self._turns.escrows_waiting + count > MOST_WAITING // 2
        if crowded or self._waiting + count > MOST_WAITING:
            raise Full("This keeper is overloaded; ask again in a few seconds.")
        self._waiting += count

    def _queue(self, task: Task, weight: int = 1, *, escrows: bool = False) -> Answer:
        job = Job(task, asyncio.get_running_loop().create_future(), weight)
        self._turns.add(job, escrows=escrows)
        self._news.set()
        return job.answer

    def _taking(self, entry: Entry) -> Work:
        return lambda batch, now_s: self.clerk.take(batch, entry, self._standing, now_s)

    def _notice(self) -> None:
        self._standing = standing_of(self._board)

    async def _run(self) -> None:
        """Write what waits, until it is closing and nothing waits any more."""
        while (jobs := await self._next()) or self._waiting or not self._closing:
            head = self._writer.head_due_s <= 0
            await self._write(jobs, head=head)
        if self._writer.headless:
            await self._write([], head=True)

    async def _write(self, jobs: Sequence[Job], *, head: bool) -> None:
        commit = self._writer.commit
        answers = await _in(self._writing, lambda: commit([job.task for job in jobs], head=head))
        self._waiting -= sum(job.weight for job in jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer.done():  # whoever asked is gone
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
                job.answer.exception()  # seen: whoever asked may be gone before it is told
            else:
                job.answer.set_result(answer)

    async def _next(self) -> list[Job]:
        """What goes into the next transaction. Nothing: a head is due, or the end has come."""
        while not self._turns and (self._waiting or not self._closing):
            left_s = max(0.0, self._writer.head_due_s) if self._writer.headless else None
            self._news.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        return self._turns.take()

    async def _finish(self) -> None:
        self._closing = True
        self._news.set()
        await self._running


async def _outcome(answer: Answer) -> Outcome:
    """A statement that could not be written is not lost: it is handed in again."""
    try:
        outcome: Outcome = await answer
    except GridError as error:
        return Outcome("later", str(error)[:MAX_TEXT_CHARS])
    return outcome


def _pool(stack: AsyncExitStack, name: str, threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, f"gridllm-ledger-{name}")
    stack.push_async_callback(asyncio.to_thread, pool.shutdown)
    return pool


async def _in(pool: ThreadPoolExecutor, work: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)
