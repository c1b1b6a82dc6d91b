"""Keepers copy each other's logs, sign what they followed, and name whoever tells two histories.

Each other keeper is asked every few seconds for the heads that it holds, of its own log and of its copies of others',
and all are compared (witness.py). What a head stands for and is not held here is fetched (copying.py), from the log's
own keeper; where that leads no further, from any other that holds it. A head that the copy agrees with is signed, too,
and shown to whoever asks: so its keeper finds out who vouches for it.

Heads and evidence that anybody else brings (``hear``) are treated alike.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from gridllm.errors import GridError, LedgerError, Refusal, SwarmError, UnknownModel
from gridllm.tasks import end
from gridllm_bootstrap.keeping.copying import Astray, Convicted, Copier, InvalidEntry
from gridllm_bootstrap.keeping.vouching import HeadReader, Shown
from gridllm_bootstrap.keeping.witness import Discord, Witness

if TYPE_CHECKING:
    from gridllm.ledger.keepers import Keepers
    from gridllm.ledger.messages import Heads
    from gridllm_bootstrap.keeping.desk import Keeper

log = logging.getLogger(__name__)

__all__ = ["Discord", "Mirror"]

EVERY_S: Final = 3.0  # each other keeper is asked, more or less
LACKING_S: Final = 120.0  # a start waits for what this keeper has lost, while nothing of it comes
STALLED_S: Final = 8.0  # a log that is behind for so long is fetched from whoever holds it
STRETCHES: Final = 16  # of one log, until heads are looked at again
DISTRUST_S: Final = 10.0  # for which a holder whose entries did not fit is not asked for that log; doubles
LONGEST_DISTRUST_S: Final = 600.0
MOST_HEARD: Final = 16  # heads that somebody brings at once


class Mirror:
    """One keeper's copies of the others' logs: ``async with Mirror(keeper, keepers)``, beside the open desk."""

    def __init__(
        self,
        keeper: Keeper,
        keepers: Keepers,
        *,
        tell: Callable[[Discord], None] = lambda _: None,
        every_s: float = EVERY_S,
        stalled_s: float = STALLED_S,
        learn: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """
        Args:
            learn: gets to know the model of a root that another keeper's log names; whether it did.
            keepers: the way to the others; used by nobody else, for it remembers who was silent.
            tell: hears of each discord once.
        """
        self._keeper = keeper
        self._keepers = keepers
        self._every_s = every_s
        self._stalled_s = stalled_s
        self._learn = learn
        reader = HeadReader(keeper.clerk.rulebook.signed)
        self._worker = ThreadPoolExecutor(1, "gridllm-ledger-mirror")
        self._witness = Witness(keeper, reader, self._worker, tell)
        self._copier = Copier(keeper, keepers, reader, self._worker)
        self._others = [name for name in keepers.all if name != keeper.log]
        self._looked = {name: asyncio.Event() for name in self._others}
        self._busy_until: dict[str, float] = {}  # by log: somebody is asked for it just now
        self._distrust: dict[tuple[str, str], tuple[float, float]] = {}  # holder, log → until when, and for how long
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Goes on from the evidence that is kept."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._worker.shutdown)
            await self._witness.begin()
            stack.push_async_callback(end, *(asyncio.create_task(self._follow(other)) for other in self._others))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def vouched(self) -> bytes | None:
        """The newest head of this keeper's own log that other keepers signed, to be shown beside the newest of all."""
        vouched = self._witness.vouched
        return None if vouched is None else vouched.raw

    async def looked(self, within_s: float) -> None:
        """Wait until every other keeper was asked once, for so long at most; and then, while more of it comes, until
        this keeper's own log has all that it is known to have signed.

        A keeper that was put back to an older state gets back so what it wrote since, before it signs anew: that would
        be another history. ``tell`` hears what is waited for.

        Raises:
            LedgerError: for ``LACKING_S`` nothing came of what is missing.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for one in self._looked.values():
                    await one.wait()
        own, now = self._witness.logs[self._keeper.log], asyncio.get_running_loop().time
        began = now()
        while own.pending:
            if now() - max(began, own.behind_since or began) >= LACKING_S:
                raise LedgerError(
                    f"This keeper's books lack entries that it signed, and for {LACKING_S:.0f} s nobody gave any of "
                    "them: start it again when the other keepers are on line, or with its newest database."
                )
            await asyncio.sleep(self._every_s / 30)

    async def hear(self, brought: Heads) -> None:
        """Take note of heads and evidence that somebody brings: an auditor, who was shown others."""
        await self._witness.hear(brought.evidence[:1])
        for shown in await self._witness.read(brought.heads[:MOST_HEARD]):
            await self._witness.regard(shown)

    async def _follow(self, other: str) -> None:
        """Ask one other keeper again and again."""
        while True:
            try:
                await self._round(other)
            except (SwarmError, Refusal) as error:
                log.debug("The keeper %s cannot be mirrored now: %s", other, error)
            except GridError as error:
                log.warning("The keeper %s cannot be mirrored now: %s", other, error)
            except Exception:
                log.exception("Mirroring the keeper %s failed", other)
            self._looked[other].set()
            pause_s = self._every_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
            await asyncio.sleep(max(pause_s, self._keepers.left_alone_s(other)))

    async def _round(self, other: str) -> None:
        said = await self._keepers.heads(other)
        await self._witness.hear(said.evidence)
        heads = await self._witness.read(said.heads)
        for shown in heads:
            await self._witness.regard(shown)
        newest = {shown.keeper: shown for shown in sorted(heads, key=lambda one: one.size)}
        for shown in newest.values():
            await self._catch_up(other, shown)

    async def _catch_up(self, other: str, shown: Shown) -> None:
        """Copy what the head stands for and is missing here, from ``other``, unless it is somebody else's turn."""
        name, state = shown.keeper, self._witness.logs[shown.keeper]
        for _ in range(STRETCHES if self._turn_of(other, name) else 0):
            copy = await self._witness.copy(name)
            if state.closed or shown.size <= copy.size:
                return
            self._busy_until[name] = asyncio.get_running_loop().time() + self._stalled_s
            try:
                taken = await self._copier.stretch(other, shown, copy)
            except Convicted as error:
                await self._witness.convict(error.evidence)
            except UnknownModel as error:
                if self._learn is None or not await self._learn(error.root):
                    log.warning("The log of %s… waits: %s Its manifest is nowhere to be had yet.", name[:16], error)
                    return
            except InvalidEntry as error:
                self._witness.refuse(Discord("invalid_entry", name, str(error)))
            except Astray as error:
                self._doubt(other, name, str(error))
                return
            else:
                self._distrust.pop((other, name), None)
                await self._witness.settle(name, grown=taken > 0)

    def _turn_of(self, other: str, name: str) -> bool:
        """Whether ``other`` is to be asked for entries of that log now."""
        now = asyncio.get_running_loop().time()
        if now < self._distrust.get((other, name), (0.0, 0.0))[0]:
            return False
        if other == name or name == self._keeper.log:  # its own word, or what this keeper itself has lost
            return True
        since = self._witness.logs[name].behind_since
        return since is not None and now - since >= self._stalled_s and now >= self._busy_until.get(name, 0.0)

    def _doubt(self, other: str, name: str, text: str) -> None:
        """What ``other`` shows of a log fits no head: it is asked again later, and named if the log is its own."""
        pause_s = min(LONGEST_DISTRUST_S, 2 * self._distrust.get((other, name), (0.0, DISTRUST_S / 2))[1])
        self._distrust[other, name] = asyncio.get_running_loop().time() + pause_s, pause_s
        log.warning("%s", text)
        if other == name:
            self._witness.say(Discord("astray", name, text))
