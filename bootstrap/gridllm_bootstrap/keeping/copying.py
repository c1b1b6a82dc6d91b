"""Copying another keeper's log: a stretch of entries after those held, checked as a whole, in one transaction.

Entries are taken only if the tree over them is what the log's keeper signed: by the root, where they reach the head's
size, and else by a consistency proof. So whoever hands them on can alter nothing, and no lie costs a transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from gridllm.errors import LedgerError, NotHeld, UnknownModel
from gridllm.ledger.log.evidence import Equivocation
from gridllm.ledger.log.proof import verify_consistency, verify_inclusion
from gridllm.ledger.messages import MAX_PAGE
from gridllm.merkle import leaf_digest
from gridllm_bootstrap.keeping.copies import Copy, accuse, frontier_of
from gridllm_bootstrap.keeping.reading import READ_TOGETHER, Read, read_entries
from gridllm_bootstrap.keeping.vouching import HeadReader, Shown, cosigned

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from gridllm.ledger.keepers import Keepers
    from gridllm.ledger.log.frontier import Frontier
    from gridllm.ledger.paper import Entry
    from gridllm.ledger.store.batch import Batch
    from gridllm_bootstrap.keeping.desk import Keeper

STRETCH_ENTRIES: Final = 2048  # in one transaction: 2 MiB and some 0.3 s of the desk's time
STRETCH_PAGES: Final = 4  # of however few entries each
PACE_BYTES_S: Final = 4 * 1024 * 1024  # of one log: more than a keeper can honestly accept
BURST_BYTES: Final = 32 * 1024 * 1024

T = TypeVar("T")


class Convicted(LedgerError):
    """A keeper is known to have told two histories."""

    def __init__(self, evidence: Equivocation) -> None:
        super().__init__(f"The keeper {evidence.keeper[:16]}… signed two histories.")
        self.evidence = evidence


class InvalidEntry(LedgerError):
    """A keeper's signed log holds what must not stand there."""

    def __init__(self, keeper: str, index: int, why: str) -> None:
        super().__init__(f"The keeper {keeper[:16]}… has an entry in its log that must not stand there, {index}: {why}")
        self.keeper, self.index = keeper, index


class Astray(LedgerError):
    """What a holder shows does not fit the head beside it; that proves nothing against anybody."""

    def __init__(self, holder: str, text: str) -> None:
        super().__init__(text)
        self.holder = holder


@dataclass(slots=True)
class _Stretch:
    """Entries on their way in."""

    first: int  # of the log
    entries: list[Entry]
    edge: Frontier  # after them
    wrong: str = ""  # about the entry after them
    raw: bytes = b""  # that entry
    unknown: str = ""  # it may be right, but is of a model that is not known here: the root

    @property
    def end(self) -> int:
        return self.first + len(self.entries)


class Copier:
    """Takes entries of other keepers' logs into this keeper's books."""

    def __init__(self, keeper: Keeper, keepers: Keepers, reader: HeadReader, worker: Executor) -> None:
        """``worker``: one thread, in which ``reader`` is used, too."""
        self._keeper = keeper
        self._keepers = keepers
        self._reader = reader
        self._worker = worker
        self._debts: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, time.monotonic()))

    async def stretch(self, holder: str, target: Shown, copy: Copy) -> int:
        """Take some entries more of the log towards the head ``target``, from a keeper that holds it; how many.

        The head is kept, with this keeper's signature, as soon as the copy reaches it.

        Raises:
            Convicted, InvalidEntry: the log's keeper is at fault; entries before an invalid one were taken.
            Astray: the holder is.
            UnknownModel: the next entry is of a model that is not known here; entries before it were taken.
            KeeperSilent, Refusal: the holder does not answer as it should.
        """
        edge = await self._keeper.read(lambda store: frontier_of(store, target.keeper))
        if edge.size >= target.size:
            return 0
        stretch = await self._fetch(holder, target, edge)
        if not await self._belongs(holder, target, stretch):
            raise await self._astray(holder, target, copy)
        taken = await self._put(target, stretch)
        if stretch.unknown:
            raise UnknownModel(stretch.unknown, stretch.wrong)
        if stretch.wrong:
            await self._check_wrong(holder, target, stretch)
            raise InvalidEntry(target.keeper, stretch.end, stretch.wrong)
        return taken

    async def _fetch(self, holder: str, target: Shown, edge: Frontier) -> _Stretch:
        stretch = _Stretch(edge.size, [], edge)
        for _ in range(STRETCH_PAGES):
            left = min(target.size - stretch.end, STRETCH_ENTRIES - len(stretch.entries), MAX_PAGE)
            if not left:
                break
            raws = await self._keepers.entries(holder, target.keeper, stretch.end, left)
            if not 0 < len(raws) <= left:
                text = (
                    f"The keeper {holder[:16]}… has a head of {target.size} entries of the log of "
                    f"{target.keeper[:16]}…, and shows {len(raws)} from entry {stretch.end} on."
                )
                raise Astray(holder, text)
            await self._slow_down(target.keeper, sum(map(len, raws)))
            for start in range(0, len(raws), READ_TOGETHER):
                read = await self._work(self._read, stretch.edge, target.keeper, raws[start : start + READ_TOGETHER])
                stretch.entries += read.entries
                if read.wrong:
                    stretch.wrong, stretch.raw = read.wrong, raws[start + len(read.entries)]
                    stretch.unknown = read.unknown
                    return stretch
        return stretch

    def _read(self, edge: Frontier, log: str, raws: list[bytes]) -> Read:
        read = read_entries(self._keeper.clerk.rulebook, log, raws)
        edge.extend(read.digests)
        return read

    async def _belongs(self, holder: str, target: Shown, stretch: _Stretch) -> bool:
        """Whether the log that the head stands for begins with these entries."""
        root = bytes.fromhex(target.head.root)
        if stretch.end in (0, target.size):
            return stretch.end == 0 or stretch.edge.root() == root
        proof = await self._proof(holder, target, first=stretch.end)
        try:
            verify_consistency(stretch.end, target.size, stretch.edge.root(), root, proof)
        except LedgerError:
            return False
        return True

    async def _check_wrong(self, holder: str, target: Shown, stretch: _Stretch) -> None:
        """Whether the entry that must not stand there is what the log's keeper signed. Raises Astray: it is not."""
        index, size, root = stretch.end, target.size, bytes.fromhex(target.head.root)
        proof = await self._proof(holder, target, index=index)
        try:
            verify_inclusion(root, size, index, leaf_digest(stretch.raw), proof)
        except LedgerError as error:
            raise Astray(holder, f"The keeper {holder[:16]}… shows another entry than was signed: {error}") from error

    async def _put(self, target: Shown, stretch: _Stretch) -> int:
        """On disk, if nobody else was faster."""
        root, whole = stretch.edge.root(), stretch.end == target.size
        head = (await self._work(cosigned, target, self._keeper.identity)).raw if whole else None

        def put(batch: Batch) -> int:
            if batch.size != stretch.first:
                return 0
            batch.mirror(stretch.entries)
            if batch.root() != root:
                raise LedgerError(f"The copy of the log of {target.keeper[:16]}… is damaged: its tree is another.")
            if head is not None:
                batch.save_head(head)
            return len(stretch.entries)

        return await self._keeper.write(target.keeper, put) if stretch.entries else 0

    async def _astray(self, holder: str, target: Shown, copy: Copy) -> LedgerError:
        """Why entries do not lead to the head."""
        log, size = target.keeper, target.size
        if copy.newest is not None and 0 < copy.newest.size < size:
            signed = copy.newest
            proof = await self._proof(holder, target, first=signed.size)
            beside = await self._proof(holder, target, index=signed.size)
            evidence = await self._work(accuse, signed, target, proof, beside, self._reader)
            if evidence is not None:
                return Convicted(evidence)
        return Astray(
            holder,
            f"The keeper {holder[:16]}… shows entries of the log of {log[:16]}… after the {copy.size} that are held "
            f"here, and with them they are not those of which {log[:16]}… signed {size}.",
        )

    async def _proof(
        self, holder: str, target: Shown, *, index: int | None = None, first: int | None = None
    ) -> list[bytes]:
        """Unverified. Raises Astray: the holder has none of a head that it shows."""
        try:
            return await self._keepers.proof(holder, target.keeper, target.size, index=index, first=first)
        except NotHeld as refusal:
            text = f"The keeper {holder[:16]}… shows a head of the log of {target.keeper[:16]}… and proves nothing: "
            raise Astray(holder, text + str(refusal)) from refusal

    async def _slow_down(self, log: str, nbytes: int) -> None:
        """Whatever a keeper's log grows by, it fills no disk faster than this."""
        owed, at = self._debts[log]
        now = time.monotonic()
        owed = max(0.0, owed - (now - at) * PACE_BYTES_S) + nbytes
        self._debts[log] = owed, now
        if owed > BURST_BYTES:
            await asyncio.sleep((owed - BURST_BYTES) / PACE_BYTES_S)

    async def _work(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, partial(work, *args))
