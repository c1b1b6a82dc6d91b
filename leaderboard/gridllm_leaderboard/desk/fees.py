"""Watches the leaderboard's own account for fees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gridllm.errors import LeaderboardError
from gridllm.ledger.paper import Rulebook
from gridllm_leaderboard.payments import Payment, payments_in

if TYPE_CHECKING:
    from gridllm.ledger.messages import HistoryRow
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.batch import Batch

SINCE_KEY: Final = "fees:since"  # Unix time up to which the account's history was read
OVERLAP_S: Final = 600  # read again each time: a keeper's clock may be put back; a transfer counts once
PAGE: Final = 500

PAYABLE: Final = ("uploading", "checking", "unpaid")


class Fees:
    """``await fees.look()`` books what came since the last time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rulebook = Rulebook(desk.signed, {})

    async def look(self) -> None:
        """Book what came.

        Raises:
            KeeperSilent, Refusal: the account's home keeper does not tell.
            LeaderboardError: the store cannot be written.
        """
        kept = await self._desk.books.read(lambda view: view.value(SINCE_KEY))
        latest = since = int(kept or 0)
        before: int | None = None
        # To the last page, however many there are: a stranger's transfers must not hide what others paid.
        while page := await self._page(max(0, since - OVERLAP_S), before):
            before, latest = page[-1].cursor, max(latest, page[0].at)
            await self._book_all(await asyncio.to_thread(payments_in, page, self._rulebook, self._desk.account))
        if latest > since:
            await self._desk.books.write(lambda batch: batch.keep(SINCE_KEY, str(latest)))

    async def waive(self) -> None:
        """The rules ask for no fee any more: who waited for theirs to be paid is queued."""

        def work(batch: Batch) -> None:
            for entry in batch.in_state("unpaid"):
                batch.state(entry.id, "queued")

        if await self._desk.books.read(lambda view: bool(view.in_state("unpaid"))):
            await self._desk.books.write(work)
            self._desk.ring()

    async def _page(self, since: int, before: int | None) -> list[HistoryRow]:
        """Newest first; empty after the last."""
        return await self._desk.keepers.history(self._desk.account, since=since, before=before, limit=PAGE)

    async def _book_all(self, payments: Sequence[Payment]) -> None:
        """A page's, newest first."""
        if not payments:
            return

        def work(batch: Batch) -> list[str]:
            return [id_ for one in reversed(payments) if (id_ := self._book(batch, one))]

        if paid := await self._desk.books.write(work):
            for submission in paid:
                self._desk.tell("paid", {"submission": submission})
            self._desk.ring()

    def _book(self, batch: Batch, payment: Payment) -> str:
        """The submission that this transfer pays for now; empty: none, or it is too little, or too late."""
        if payment.micro < self._desk.rules.fee or batch.settled(payment.transfer):
            return ""
        found = batch.find(payment.submission)
        entry = batch.entry(found[0]) if len(found) == 1 else None
        if entry is None or entry.paid or entry.state not in PAYABLE:
            return ""
        try:
            return entry.id if batch.paid(entry.id, payment.transfer) else ""
        except LeaderboardError:
            return ""  # paid by another transfer
