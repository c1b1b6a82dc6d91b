"""What keepers sign of their logs, compared with what is held here: heads are vouched for, or convict their keeper.

A head is compared with the copy of its log, or waits until the copy reaches it. Where two heads of one keeper cannot
both be true, the evidence is kept and passed on, and nothing more is taken from that log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from gridllm.errors import LedgerError
from gridllm.ledger.log.evidence import Equivocation, verify_equivocation
from gridllm_bootstrap.keeping.copies import Copy, contradicting, copy_of, leads_to, two_histories
from gridllm_bootstrap.keeping.vouching import HeadReader, Shown, cosigned, joined

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from gridllm.ledger.store.batch import Batch
    from gridllm.ledger.store.store import LedgerStore
    from gridllm_bootstrap.keeping.desk import Keeper

MOST_PENDING: Final = 8  # heads of one log that wait to be compared

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Discord:
    """Something that a maintainer should know of a keeper."""

    kind: Literal["two_histories", "invalid_entry", "astray", "lost", "elsewhere"]
    keeper: str  # hex key
    text: str  # one sentence


@dataclass(slots=True)
class LogState:
    """What is going on with one keeper's log."""

    pending: dict[bytes, Shown] = field(default_factory=dict)  # heads of more entries than are compared so far
    behind_since: float | None = None  # event loop time: since there is one, or the copy last grew
    closed: bool = False  # nothing more is taken from it
    convicted: bool = False  # by evidence that is kept


class Witness:
    """Compares heads of all logs; keeps and cosigns those that hold, and evidence."""

    def __init__(
        self, keeper: Keeper, reader: HeadReader, worker: Executor, tell: Callable[[Discord], None] = lambda _: None
    ) -> None:
        """``tell`` hears of each discord once."""
        self._keeper = keeper
        self._reader = reader
        self._worker = worker
        self._tell = tell
        self._told: set[tuple[str, str]] = set()
        self.logs = {name: LogState() for name in reader.signed.charter.keepers}
        """By keeper."""
        self.vouched: Shown | None = None
        """The newest head of this keeper's own log that others signed."""

    async def begin(self) -> None:
        """Go on from the evidence that is kept. Raises LedgerError: it is none."""
        for raw in await self._keeper.read(lambda store: store.evidence()):
            evidence = await self._work(verify_equivocation, raw, self._reader.signed)
            self.logs[evidence.keeper].convicted = True
            self._close(evidence)

    async def copy(self, name: str) -> Copy:
        """How much of a log is held here."""

        def read(store: LedgerStore) -> Copy:
            return copy_of(store, name, self._reader)

        return await self._keeper.read(read)

    async def read(self, raws: Sequence[bytes]) -> list[Shown]:
        """Those of them that are heads of this grid's keepers."""
        return await self._work(self._reader.read_all, raws)

    async def regard(self, shown: Shown) -> None:
        """Compare a head with the copy of its log, now or when the copy has come so far."""
        state = self.logs[shown.keeper]
        if state.closed:
            return
        copy = await self.copy(shown.keeper)
        if copy.newest is not None and shown.size <= copy.newest.size:
            await self._compare(copy.newest, shown)
            return
        evidence = await self._work(contradicting, shown, list(state.pending.values()), self._reader)
        if evidence is not None:
            await self.convict(evidence)
            return
        if shown.keeper == self._keeper.log:
            self._say_lost(copy, shown)
        state.pending[shown.raw] = shown
        if len(state.pending) > MOST_PENDING:  # the nearest are told apart soonest
            del state.pending[max(state.pending, key=lambda raw: state.pending[raw].size)]
        if state.behind_since is None:
            state.behind_since = asyncio.get_running_loop().time()
        await self.settle(shown.keeper)

    async def settle(self, name: str, *, grown: bool = False) -> None:
        """Compare heads that waited, as far as the copy goes now."""
        state = self.logs[name]
        if grown:
            state.behind_since = asyncio.get_running_loop().time()
        for raw, shown in sorted(state.pending.items(), key=lambda item: item[1].size):
            copy = await self.copy(name)
            if shown.size > copy.size or state.closed:
                break
            state.pending.pop(raw, None)
            if copy.newest is not None and shown.size <= copy.newest.size:
                await self._compare(copy.newest, shown)
            elif await self._keeper.read(partial(leads_to, shown=shown)):
                await self._keep(shown)
            else:  # the head that these entries stood under was lost in a crash, and with it the proof
                text = f"The keeper {name[:16]}… signed a head of {shown.size} entries that are not those it showed."
                self.say(Discord("astray", name, text))
        if not state.pending:
            state.behind_since = None

    async def hear(self, raws: Sequence[bytes]) -> None:
        """Take note of evidence that somebody hands on; a false one accuses nobody."""
        for raw in raws:
            try:
                evidence = await self._work(verify_equivocation, raw, self._reader.signed)
            except LedgerError:
                continue
            await self.convict(evidence)

    async def convict(self, evidence: Equivocation) -> None:
        """Keep evidence, the first against each keeper, and take nothing more from its log."""
        state = self.logs[evidence.keeper]
        if state.convicted:
            return
        state.convicted = True
        self._close(evidence)
        try:
            await self._keeper.write(evidence.keeper, lambda batch: batch.save_evidence(evidence.raw))
        except BaseException:
            state.convicted = False  # it is heard of again
            raise

    def refuse(self, discord: Discord) -> None:
        """Take nothing more from that keeper's log."""
        state = self.logs[discord.keeper]
        state.closed, state.behind_since = True, None
        state.pending.clear()
        self.say(discord)

    def say(self, discord: Discord) -> None:
        """Tell people, once of each kind and keeper."""
        if (discord.kind, discord.keeper) not in self._told:
            self._told.add((discord.kind, discord.keeper))
            self._tell(discord)

    async def _compare(self, newest: Shown, shown: Shown) -> None:
        """``shown`` is of no more entries than ``newest``, to which the copy leads."""

        def read(store: LedgerStore) -> Equivocation | None:
            return two_histories(store, newest, shown, self._reader)

        evidence = await self._keeper.read(read)
        if evidence is not None:
            await self.convict(evidence)
            return
        own = shown.keeper == self._keeper.log
        if own and shown.cosigners:
            known = self.vouched
            self.vouched = shown if known is None or shown.size > known.size else joined(known, shown)
        if shown.size < newest.size:
            return
        better = joined(newest, shown)
        if better.cosigners > newest.cosigners:
            await self._keep(better)
        elif shown.head.issued > newest.head.issued and not own:  # its keeper said it again: to be signed again
            await self._keep(shown)

    async def _keep(self, shown: Shown) -> None:
        """Keep a head that the copy leads to, with this keeper's signature; unless there is a newer one by now."""
        mine = await self._work(cosigned, shown, self._keeper.identity)

        def keep(batch: Batch) -> None:
            held = batch.head()
            if held is None or self._reader.read(held).size <= mine.size <= batch.size:
                batch.save_head(mine.raw)

        await self._keeper.write(shown.keeper, keep)

    def _close(self, evidence: Equivocation) -> None:
        first, second = (self._reader.read(raw.encode()).size for raw in (evidence.first, evidence.second))
        which = f"two logs of {first}" if first == second else f"one log of {first} entries, and one of {second}"
        text = (
            f"The keeper {evidence.keeper[:16]}… showed two histories: it signed {which} entries that cannot be one. "
            "What it writes from now on does not count here."
        )
        self.refuse(Discord("two_histories", evidence.keeper, text))

    def _say_lost(self, copy: Copy, shown: Shown) -> None:
        text = (
            f"This keeper's log has {copy.size} entries, and it signed {shown.size}, as others can show: its database "
            "was put back to an older state. What is missing is fetched from them; until then it waits."
        )
        self.say(Discord("lost", shown.keeper, text))

    async def _work(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, partial(work, *args))
