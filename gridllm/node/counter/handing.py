"""Hands the purse's vouchers in at the payers' keepers, and releases what is left of their escrows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import GridId
from gridllm.ledger.messages import Outcome
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Release, TabKey
from gridllm.ledger.store.slips import Slip
from gridllm.node.counter.purse import Purse

log = logging.getLogger(__name__)

EVERY_S: Final = 20.0  # while there is something to hand in
OPEN_EVERY_S: Final = 300.0  # of a session that goes on under its escrow: each voucher stays in the books for ever
ENDING_S: Final = 120.0  # before the escrow's end: from there on it is handed in every round
SOON_S: Final = 1.0  # after a session closed, for others that close at the same moment
LONGEST_PAUSE_S: Final = 600.0  # of a keeper that is silent
LONGEST_WAIT_S: Final = 6 * 3600.0  # of a voucher that it will take later: the payer may have nothing left for years
BATCH: Final = 512  # statements for one keeper in one go
LAST_S: Final = 5.0  # for the last round, at a clean stop
TAKEN: Final = ("accepted", "known")
LATER: Final = ("later", "too_soon", "full", "draining", "node_fault")


class Desks(Protocol):
    """The keepers, as ``ledger.keepers.Keepers`` reaches them."""

    def home(self, account: str) -> str:
        """Which keeper keeps the account's books."""
        ...

    async def submit(self, keeper: str, raws: Sequence[bytes]) -> list[Outcome]:
        """Hand statements in. Raises SwarmError, Refusal."""
        ...


def due(slips: Iterable[Slip], now_s: float) -> list[Slip]:
    """Slips with a voucher that the keeper has not taken, or with an escrow to release, oldest session first."""
    ready = [
        slip
        for slip in slips
        if slip.again_at <= now_s and ((slip.payable and not rests(slip, now_s)) or slip.releasable(now_s))
    ]
    return sorted(ready, key=lambda slip: slip.closed_at or now_s)


def rests(slip: Slip, now_s: float) -> bool:
    """Whether a voucher need not be handed in yet: its escrow holds, and a higher one will come.

    What was served on trust is: the account is trusted again as far as its keeper has taken it.
    """
    covered = slip.closed_at is None and not slip.on_trust and now_s < slip.expires - ENDING_S
    return covered and now_s < slip.taken_at + OPEN_EVERY_S


def pause_s(tries: int, drawn: float, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Before a keeper, or for a voucher, is tried again; ``drawn`` in [0, 1) spreads those who wait together."""
    return min(longest_s, EVERY_S * 2.0 ** min(tries - 1, 16)) * (0.75 + 0.5 * drawn)


class HandIn:
    """One node's rounds: ``await handing.run()`` beside its service, ``await handing.last()`` after it."""

    def __init__(
        self,
        purse: Purse,
        desks: Desks,
        grid: GridId,
        identity: Identity,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``identity`` is the payee: it signs the releases."""
        self._purse = purse
        self._desks = desks
        self._grid = grid
        self._identity = identity
        self._clock = clock
        self._certificate = b""  # says that this node may be paid; b"": there is none
        self._shown: set[str] = set()  # keepers that had it from this node
        self._silent: dict[str, tuple[int, float]] = {}  # keeper → failures in a row, when to try again

    def enrol(self, certificate: bytes) -> None:
        """Have the books know that this node may be paid: its admission certificate goes to its own keeper.

        And to a payer's that puts a voucher off: what the other knows may not have reached it.
        """
        self._certificate = certificate
        self._shown.clear()
        self._purse.news.set()

    async def run(self) -> None:
        """For ever: a round soon after a session closed, and every ``EVERY_S`` besides."""
        while True:
            self._purse.news.clear()
            try:
                await self.round()
                self._purse.forget_old()
            except Exception:
                log.exception("A round to the ledger's keepers failed")  # vouchers wait, and serving goes on
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._purse.news.wait()
            await asyncio.sleep(SOON_S)

    async def last(self) -> None:
        """One more round before the node leaves, within ``LAST_S``; what is not taken then waits for the next start."""
        self._silent.clear()
        try:
            async with asyncio.timeout(LAST_S):
                await self.round()
        except TimeoutError:
            log.info("The ledger's keepers did not take all vouchers in time: the rest waits for the next start")
        except Exception:
            log.exception("The last round to the ledger's keepers failed")  # vouchers wait, and the node leaves

    async def round(self) -> None:
        """Hand in what is due, at all keepers at once."""
        now = self._clock()
        own = self._desks.home(self._identity.public_key.hex())
        batches: defaultdict[str, list[Slip]] = defaultdict(list)
        if self._unshown(own):
            batches[own] = []
        for slip in due(self._purse.unsettled(), now):
            batches[self._desks.home(slip.tab.payer)].append(slip)
        ready = [(keeper, slips) for keeper, slips in batches.items() if self._silent.get(keeper, (0, 0.0))[1] <= now]
        await asyncio.gather(*(self._visit(keeper, slips, enrol=keeper == own) for keeper, slips in ready))

    async def _visit(self, keeper: str, slips: list[Slip], *, enrol: bool) -> None:
        try:
            if enrol and self._unshown(keeper):
                await self._enrol(keeper)
            for first in range(0, len(slips), BATCH):
                batch = slips[first : first + BATCH]
                put_off = await self._pay_in([slip for slip in batch if slip.payable], keeper)
                if put_off and self._unshown(keeper):
                    await self._enrol(keeper)
                await self._release([slip for slip in batch if slip.releasable(self._clock())], keeper)
        except GridError as error:
            failures = self._silent.get(keeper, (0, 0.0))[0] + 1
            again_s = pause_s(failures, random.random())  # noqa: S311 - spreads load
            self._silent[keeper] = failures, self._clock() + again_s
            log.info("Vouchers wait for the keeper %s…, for %.0f s more: %s", keeper[:16], again_s, error)
        else:
            self._silent.pop(keeper, None)

    def _unshown(self, keeper: str) -> bool:
        return bool(self._certificate) and keeper not in self._shown

    async def _enrol(self, keeper: str) -> None:
        raw = self._certificate
        (outcome,) = await self._desks.submit(keeper, [raw])
        if outcome.code not in TAKEN:
            log.warning("The ledger does not know yet that this node may be paid (%s): %s", outcome.code, outcome.text)
        if outcome.code not in LATER and self._certificate == raw:
            self._shown.add(keeper)

    async def _pay_in(self, slips: list[Slip], keeper: str) -> bool:
        """Hand in their vouchers; whether the keeper will take one later."""
        said = [(slip, slip.micro) for slip in slips]  # a session that goes on has a higher one by the time of answer
        outcomes = await self._desks.submit(keeper, [slip.voucher for slip in slips]) if slips else []
        put_off = False
        for (slip, micro), outcome in zip(said, outcomes, strict=True):
            if outcome.code in TAKEN:
                self._purse.settle(slip, micro)
            elif outcome.code in LATER:
                put_off = True
                self._put_off(slip, outcome)
            elif slip.micro == micro:
                slip.refused = f"{outcome.code}: {outcome.text}"
                self._purse.changed(slip)
                log.warning("A voucher is kept aside, its keeper will not take it (%s): %s", outcome.code, outcome.text)
        return put_off

    async def _release(self, slips: list[Slip], keeper: str) -> None:
        for slip in slips:
            slip.released = True  # from here on nobody opens the session anew
        taken: set[TabKey] = set()
        try:
            raws = [self._signed_release(slip) for slip in slips]
            for slip, outcome in zip(slips, await self._desks.submit(keeper, raws) if raws else [], strict=True):
                if outcome.code in LATER:
                    self._put_off(slip, outcome)
                    continue
                taken.add(slip.tab)
                self._purse.changed(slip)
                if outcome.code not in TAKEN:
                    log.info("An escrow ends by itself, its release was not taken (%s): %s", outcome.code, outcome.text)
        finally:
            for slip in slips:
                slip.released = slip.tab in taken

    def _signed_release(self, slip: Slip) -> bytes:
        return sign(Release(grid=self._grid, issued=int(self._clock()), **slip.tab._asdict()), self._identity)

    def _put_off(self, slip: Slip, outcome: Outcome) -> None:
        slip.tries += 1
        slip.again_at = self._clock() + pause_s(slip.tries, random.random(), LONGEST_WAIT_S)  # noqa: S311 - spreads load
        log.info("A voucher waits: %s", outcome.text)
