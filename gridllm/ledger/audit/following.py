"""Following each keeper's log to its newest head, entry by entry, from whoever holds most of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from gridllm.charter.document import SignedCharter
from gridllm.errors import LedgerError, SwarmError
from gridllm.ledger.audit.faults import Wrong, short
from gridllm.ledger.audit.logs import Learn, Log, Progress, Prove, Seen, Source, Take
from gridllm.ledger.log.evidence import fork, verify_equivocation
from gridllm.ledger.log.heads import cosigners, verify_head
from gridllm.ledger.log.proof import verify_consistency
from gridllm.ledger.messages import MAX_PAGE
from gridllm.ledger.readers import Read, Readers, result_of


class Follower:
    """All logs of a grid."""

    def __init__(
        self,
        source: Source,
        signed: SignedCharter,
        take: Take,
        *,
        prove: Prove | None,
        progress: Progress,
        learn: Learn | None = None,
    ) -> None:
        """
        Args:
            prove: to name an altered entry; None: nobody can be asked.
            learn: gets to know models that entries name and the charter does not; None: that ends it.
        """
        self._learn = learn
        self._source, self._signed, self._take, self._prove = source, signed, take, prove
        self._progress = progress
        self.logs = {keeper: Log(keeper) for keeper in signed.charter.keepers}
        self.seen: list[Seen] = []
        """The newest heads that were shown, by everyone who showed one."""
        self.silent: dict[str, str] = {}
        """Keepers that did not answer, and why."""

    @property
    def entries(self) -> int:
        """Read so far."""
        return sum(log.entries for log in self.logs.values())

    @property
    def ahead(self) -> int:
        """Entries under the newest heads that were not read yet."""
        return sum(best.head.size - self.logs[best.head.keeper].entries for best in self.best())

    async def look(self, holders: Sequence[str]) -> None:
        """See the newest heads, of all at once: so they fit together best.

        Raises:
            Wrong: a keeper shows what is no head of a log, or evidence that one lied.
        """
        answers = await asyncio.gather(*(self._source.heads(one) for one in holders), return_exceptions=True)
        self.seen, self.silent = [], {}
        for holder, answer in zip(holders, answers, strict=True):
            if isinstance(answer, SwarmError):
                self.silent[holder] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self.seen += [self._checked(holder, raw) for raw in answer.heads]
                self._believe(holder, answer.evidence)
        for one in self.seen:
            self.logs[one.head.keeper].cosigned.update(cosigners(one.raw, self._signed))

    async def follow(self, readers: Readers) -> None:
        """Read all logs up to the newest heads that ``look`` saw.

        Raises:
            Wrong: an entry breaks the rules, or entries do not lead to the head.
        """
        for best in self.best():
            await self._follow(self.logs[best.head.keeper], best, readers)

    def compare(self, known: Mapping[str, bytes]) -> None:
        """Check all heads, those seen now and those ``known`` from before, against the entries that were read.

        Raises:
            Wrong: a keeper signed two histories, with evidence.
        """
        remembered = [Seen("this machine", raw, verify_head(raw, self._signed)) for raw in known.values()]
        for one in [*self.seen, *remembered]:
            log = self.logs[one.head.keeper]
            if one.head.size > log.entries:
                raise Wrong(
                    f"The keeper {short(log.keeper)} has lost entries: it signed a log of {one.head.size} entries, as "
                    f"{short(one.holder)} can show, and now {log.entries} are to be had.",
                    keeper=log.keeper,
                    log=log.keeper,
                )
            if one.head.size and log.tiles.root(one.head.size).hex() != one.head.root:
                raise self._two_histories(log, one)

    def _two_histories(self, log: Log, other: Seen) -> Wrong:
        evidence = fork(other.raw, log.raw, self._signed, log.tiles.node)
        return Wrong(
            f"The keeper {short(log.keeper)} shows two histories: it signed the head of {other.head.size} entries that "
            f"{short(other.holder)} holds, and the entries that {short(log.holder)} holds under its signed head of "
            f"{log.entries} do not begin with those.",
            keeper=log.keeper,
            log=log.keeper,
            evidence=b"" if evidence is None else evidence.raw,
        )

    def best(self) -> list[Seen]:
        """Of each log the largest head, from its own keeper if that shows it."""
        best: dict[str, Seen] = {}
        for one in self.seen:
            held = best.get(one.head.keeper)
            own = one.holder == one.head.keeper
            if held is None or (one.head.size, own) > (held.head.size, held.holder == one.head.keeper):
                best[one.head.keeper] = one
        return [best[keeper] for keeper in self.logs if keeper in best]

    async def _follow(self, log: Log, best: Seen, readers: Readers) -> None:
        """Fetch, check and fold go on side by side: a page is under way while earlier ones are read."""
        started, known, size = time.monotonic(), log.entries, best.head.size
        log.holder, first = best.holder, known
        waiting: deque[tuple[Sequence[bytes], Future[Read]]] = deque()
        page = asyncio.create_task(self._page(best, first)) if first < size else None
        try:
            while page is not None or waiting:
                if page is not None:
                    raws = await page
                    waiting.append((raws, readers.hand_in(log.keeper, raws)))
                    first += len(raws)
                    page = asyncio.create_task(self._page(best, first)) if first < size else None
                if page is None or len(waiting) > readers.depth:
                    await self._taken(log, *waiting.popleft(), readers)
                    self._progress(self.entries, self.entries + self.ahead)
        finally:
            if page is not None:
                page.cancel()
                await asyncio.gather(page, return_exceptions=True)
        log.seconds += time.monotonic() - started
        if log.tiles.root(size).hex() != best.head.root:
            raise await self._other_entries(log, best, known)
        log.head, log.raw = best.head, best.raw

    async def _page(self, best: Seen, first: int) -> list[bytes]:
        log, left = best.head.keeper, best.head.size - first
        raws = await self._source.entries(best.holder, log, first, min(left, MAX_PAGE))
        if not 0 < len(raws) <= left:
            raise Wrong(
                f"The keeper {short(best.holder)} holds a head of {best.head.size} entries of the log of {short(log)}, "
                f"and shows {len(raws)} from entry {first} on.",
                keeper=best.holder,
                log=log,
                index=first,
            )
        return raws

    async def _taken(self, log: Log, raws: Sequence[bytes], reading: Future[Read], readers: Readers) -> None:
        """Fold in a page, once all models that it names are known."""
        while True:
            first = log.entries
            unknown = await asyncio.to_thread(self._took, log, reading)
            if not unknown:
                return
            if not readers.knows(unknown):
                readers.learn(unknown, await self._blocks_of(unknown, log))
            raws = raws[log.entries - first :]
            reading = readers.hand_in(log.keeper, raws)

    async def _blocks_of(self, root: str, log: Log) -> Sequence[int]:
        """Raises LedgerError."""
        if self._learn is None:
            raise LedgerError(
                f"Entry {log.entries} in the log of {short(log.keeper)} names the model {short(root)}, whose manifest "
                "is not here: its price cannot be checked."
            )
        return await self._learn(root)

    def _took(self, log: Log, reading: Future[Read]) -> str:
        """Fold in what was read; the root of a model that is not known, where that broke off the reading."""
        batch = result_of(reading)
        log.tiles.append(batch.digests)
        self._take(batch.told)
        log.entries += len(batch.digests)
        if batch.unknown:
            return batch.unknown
        if batch.wrong:
            raise Wrong(
                f"Entry {log.entries} in the log of {short(log.keeper)} (as {short(log.holder)} holds it): "
                f"{batch.wrong}",
                keeper=log.holder,
                log=log.keeper,
                index=log.entries,
            )
        return ""

    async def _other_entries(self, log: Log, best: Seen, known: int) -> Wrong:
        """Which entry is the first that the signed head does not stand for; entries before ``known`` are right."""
        right, wrong = known, best.head.size
        where = f"between {known} and {wrong}"
        if self._prove is not None:
            try:
                while wrong - right > 1:
                    middle = (right + wrong) // 2
                    if await self._begins(self._prove, log, best, middle):
                        right = middle
                    else:
                        wrong = middle
                where = str(right)
            except SwarmError as error:
                where += f" (it does not tell which: {error})"
        return Wrong(
            f"Entry {where} in the log of {short(log.keeper)} (as {short(best.holder)} holds it): it is not what "
            f"stood there when {short(log.keeper)} signed the head of {best.head.size} entries; it was altered since.",
            keeper=best.holder,
            log=log.keeper,
            index=right,
        )

    async def _begins(self, prove: Prove, log: Log, best: Seen, first: int) -> bool:
        """Whether the log under the head begins with the ``first`` entries that were read."""
        proof = await prove(best.holder, log.keeper, best.head.size, first=first)
        try:
            verify_consistency(first, best.head.size, log.tiles.root(first), bytes.fromhex(best.head.root), proof)
        except LedgerError:
            return False
        return True

    def _checked(self, holder: str, raw: bytes) -> Seen:
        try:
            return Seen(holder, raw, verify_head(raw, self._signed))
        except LedgerError as error:
            raise Wrong(
                f"The keeper {short(holder)} shows a head that nobody can use: {error}", keeper=holder
            ) from error

    def _believe(self, holder: str, evidence: Sequence[bytes]) -> None:
        for raw in evidence:
            try:
                liar = verify_equivocation(raw, self._signed).keeper
            except LedgerError:
                continue  # whoever passes on a false one accuses nobody
            raise Wrong(
                f"The keeper {short(liar)} signed two histories; {short(holder)} holds the evidence.",
                keeper=liar,
                log=liar,
                evidence=raw,
            )
