"""What this node is owed: the newest voucher of every bill, kept on disk until the payer's keeper has taken it.

``hand_in`` brings them there. State lives on the event loop; one thread writes, once a second at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from gridllm.errors import LedgerError
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import TabKey, Voucher
from gridllm.ledger.store.slips import Change, Day, Slip, SlipStore
from gridllm.node.counter.bill import Bill

log = logging.getLogger(__name__)

FLUSH_S: Final = 1.0  # a power cut loses no more than the vouchers of so long: their clients have higher ones by then
SKEW_S: Final = 300  # between this node's clock and its clients'
UNPAID_SHARE: Final = 1 / 16  # of a window: whoever leaves more unpaid has no escrow back before it ends
RETURN_S: Final = 300.0  # a client that fell silent may come back; only then is the rest of its escrow given back
TRUST_KEPT_S: Final = 7 * 86400  # a settled bill without escrow is remembered, so that it is not begun again at zero
MOST_PUT_OFF: Final = 20_000  # ended bills that their payers have nothing for: each may have cost them a token
PUT_OFF_TRIES: Final = 8  # in a row, an hour and a half: a keeper whose disk is full says the same for a while
WALK_DAYS: Final = 2  # what an account left unpaid counts against it on that day and the next
DAY_S: Final = 86400


class Earnings(NamedTuple):
    """Micro-credits."""

    earned: int  # the keepers have taken the vouchers for so much, ever
    waiting: int  # promised by vouchers that are still to be handed in


class Purse:
    """Use as ``async with Purse(path) as purse``."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.news = asyncio.Event()
        """A session closed: there is something to hand in soon."""
        self._path = path
        self._clock = clock
        self._slips: dict[TabKey, Slip] = {}
        self._walked: dict[tuple[str, int], int] = {}  # account, day → left unpaid
        self._earned = 0
        self._waiting: dict[TabKey, int] = {}  # bill → what its voucher promises and no keeper has taken
        self._waiting_in_all = 0
        self._trusted: defaultdict[str, set[TabKey]] = defaultdict(set)  # by payer: on trust, and not taken yet
        self._unsettled: set[TabKey] = set()  # something of them is still to be handed in
        self._changed: set[TabKey] = set()
        self._days: set[tuple[str, int]] = set()  # of ``_walked``, changed
        self._store: SlipStore | None = None
        self._thread = ThreadPoolExecutor(1, "purse")
        self._flusher: asyncio.Task[None] | None = None
        self._stirred = asyncio.Event()  # there is something to write
        self._said = ""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._store = await loop.run_in_executor(self._thread, SlipStore, self._path)
        found, days, self._earned = await loop.run_in_executor(self._thread, self._store.load)
        now = self._clock()
        for slip in found:
            if slip.closed_at is None:  # this node went down in the middle of it
                slip.closed_at, slip.release_at = now, now + RETURN_S
                self._touch(slip.tab)
            self._enter(slip)
        self._walked = {(day.account, day.day): day.micro for day in days}
        self._flusher = asyncio.create_task(self._flush_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        await self.flush()
        if self._store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    @property
    def earnings(self) -> Earnings:
        """How this node's work was paid so far."""
        return Earnings(self._earned, self._waiting_in_all)

    def slip(self, tab: TabKey) -> Slip | None:
        """What is known of a bill."""
        return self._slips.get(tab)

    def slips(self) -> Iterator[Slip]:
        """All of them."""
        return iter(list(self._slips.values()))

    def unsettled(self) -> Iterator[Slip]:
        """Those of which something is to be handed in, now or later."""
        return iter([self._slips[tab] for tab in self._unsettled])

    def debt(self, account: str, besides: Collection[TabKey] = ()) -> int:
        """What this node served the account on trust and no keeper has taken yet; ``besides``: not counting those."""
        slips = (self._slips[tab] for tab in self._trusted.get(account, set()) - set(besides))
        return self.left_unpaid(account) + sum(slip.micro - slip.accepted for slip in slips)

    def debtors(self) -> Set[str]:
        """Accounts that were served on trust and whose vouchers no keeper has taken yet."""
        return self._trusted.keys()

    def left_unpaid(self, account: str) -> int:
        """What the account was served lately, beyond its vouchers, in sessions that ended."""
        today = int(self._clock() // DAY_S)
        return sum(self._walked.get((account, today - ago), 0) for ago in range(WALK_DAYS))

    def begin(self, bill: Bill) -> None:
        """A session opens: its bill goes on from where it stood, if it was open before."""
        slip = self._slips.get(bill.tab)
        if slip is not None:
            slip.closed_at = slip.release_at = None
            bill.claimed = slip.micro
            bill.escrow, bill.gift = (
                max(bill.escrow, slip.escrow),
                max(bill.gift, slip.gift),
            )  # an older one may be shown
            bill.expires = max(bill.expires, slip.expires)
            bill.resume(Count(slip.prefill, slip.decode))
        if slip is not None or not bill.on_trust:
            self.note(bill)

    def note(self, bill: Bill) -> None:
        """What covers a bill changed."""
        slip = self._of(bill)
        slip.escrow, slip.gift, slip.expires = bill.escrow, bill.gift, bill.expires
        self._touch(bill.tab)

    def keep(self, bill: Bill, raw: bytes, voucher: Voucher) -> None:
        """Keep the highest voucher of a bill."""
        slip = self._of(bill)
        slip.voucher, slip.micro, slip.prefill, slip.decode = raw, voucher.micro, voucher.prefill, voucher.decode
        slip.refused, slip.tries, slip.again_at = "", 0, 0.0
        self.note(bill)

    def shut(self, bill: Bill, *, by_client: bool) -> None:
        """A session ended; ``by_client``: the client said so, and will not come back."""
        now = self._clock()
        if bill.unpaid:
            day = bill.tab.payer, int(now // DAY_S)
            self._walked[day] = self._walked.get(day, 0) + bill.unpaid
            self._days.add(day)
            self._stirred.set()
        if (slip := self._slips.get(bill.tab)) is not None:
            slip.closed_at, slip.release_at = now, now if by_client else now + RETURN_S
            if bill.unpaid > UNPAID_SHARE * bill.window:  # or it would pass the credit on, and walk off under new names
                slip.release_at = max(slip.release_at, bill.expires)
            self.note(bill)
        self.news.set()

    def settle(self, slip: Slip, micro: int) -> None:
        """The keeper has taken the bill's voucher of ``micro``."""
        self._earned += max(0, slip.worth(micro) - slip.worth(slip.accepted))
        slip.accepted, slip.tries, slip.taken_at = max(slip.accepted, micro), 0, self._clock()
        self._touch(slip.tab)

    def changed(self, slip: Slip) -> None:
        """Something else of it is to be written."""
        self._touch(slip.tab)

    def forget_old(self) -> None:
        """Let go of bills that are settled and cannot be opened again, and of the least of those that nobody pays."""
        now = self._clock()
        put_off: list[Slip] = []
        for slip in self.slips():
            until = slip.expires + SKEW_S if slip.expires else (slip.closed_at or now) + TRUST_KEPT_S
            if slip.closed_at is None or now <= until:
                continue
            if slip.released or slip.gifted:
                self._forget(slip)
            elif (slip.refused or slip.tries >= PUT_OFF_TRIES) and not slip.on_trust:
                put_off.append(slip)
        put_off.sort(key=lambda slip: slip.micro - slip.accepted, reverse=True)
        for slip in put_off[MOST_PUT_OFF:]:
            self._forget(slip)
        today = int(now // DAY_S)
        self._walked = {key: micro for key, micro in self._walked.items() if key[1] > today - WALK_DAYS}

    async def flush(self) -> None:
        """Write what changed; on disk when this returns, unless the disk fails: then it is tried again."""
        if self._store is None or not (self._changed or self._days):
            return
        changed, days = self._changed, self._days
        self._changed, self._days = set(), set()
        change = Change(
            [replace(self._slips[tab]) for tab in changed if tab in self._slips],
            [tab for tab in changed if tab not in self._slips],
            [Day(*key, self._walked[key]) for key in days if key in self._walked],
            self._earned,
            int(self._clock() // DAY_S) - WALK_DAYS,
        )
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.save, change)
        except LedgerError as error:
            self._changed |= changed
            self._days |= days
            if self._said != str(error):
                self._said = str(error)
                log.warning("Vouchers are in memory only, and are lost if this node stops now: %s", error)
        except BaseException:
            self._changed |= changed  # this task is cancelled: written twice does no harm
            self._days |= days
            raise
        else:
            self._said = ""

    async def _flush_on(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            await self.flush()
            if self._changed:
                self._stirred.set()
            await asyncio.sleep(FLUSH_S)

    def _of(self, bill: Bill) -> Slip:
        slip = self._slips.get(bill.tab)
        if slip is None:
            slip = Slip(bill.tab)
            self._enter(slip)
        return slip

    def _forget(self, slip: Slip) -> None:
        del self._slips[slip.tab]
        self._touch(slip.tab)

    def _enter(self, slip: Slip) -> None:
        self._slips[slip.tab] = slip
        self._note_state(slip.tab)

    def _note_state(self, tab: TabKey) -> None:
        """Keep the sums: a node may have a hundred thousand bills behind it that are settled."""
        slip = self._slips.get(tab)
        if slip is not None and slip.on_trust and slip.micro > slip.accepted:
            self._trusted[tab.payer].add(tab)
        elif tab.payer in self._trusted:
            self._trusted[tab.payer].discard(tab)
            if not self._trusted[tab.payer]:
                del self._trusted[tab.payer]
        payable = slip is not None and slip.payable
        waiting = slip.worth(slip.micro) - slip.worth(slip.accepted) if slip is not None and payable else 0
        self._waiting_in_all += waiting - self._waiting.pop(tab, 0)
        if waiting:
            self._waiting[tab] = waiting
        if slip is not None and (payable or not (slip.released or slip.gifted or slip.refused)):
            self._unsettled.add(tab)
        else:
            self._unsettled.discard(tab)

    def _touch(self, tab: TabKey) -> None:
        self._changed.add(tab)
        self._note_state(tab)
        self._stirred.set()
