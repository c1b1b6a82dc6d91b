"""Watches the leaderboard's own account for fees."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gridllm.errors import LeaderboardError
from gridllm.ledger.paper import Rulebook
from gridllm_leaderboard.desk.payments import Payment, payments_in

if TYPE_CHECKING:
    from gridllm.ledger.messages import HistoryRow
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.batch import Batch

SINCE_KEY: Final = "fees:since"  # Unix time up to which the account's history was read
OVERLAP_S: Final = 600  # read again each time: a keeper's clock may be put back; a transfer counts once
PAGE: Final = 500
MOST_PAGES: Final = 100  # in one go

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
        desk = self._desk
        kept = await desk.books.read(lambda view: view.value(SINCE_KEY))
        since = int(kept or 0)
        rows = await self._rows(max(0, since - OVERLAP_S))
        if not rows:
            return
        payments = await asyncio.to_thread(payments_in, rows, self._rulebook, desk.account)
        latest = max(row.at for row in rows)

        def work(batch: Batch) -> list[str]:
            paid = [id_ for one in reversed(payments) if (id_ := self._book(batch, one))]
            if latest > since:
                batch.keep(SINCE_KEY, str(latest))
            return paid

        if paid := await desk.books.write(work):
            for submission in paid:
                desk.tell("paid", {"submission": submission})
            desk.ring()

    async def waive(self) -> None:
        """The rules ask for no fee any more: who waited for theirs to be paid is queued."""

        def work(batch: Batch) -> None:
            for entry in batch.in_state("unpaid"):
                batch.state(entry.id, "queued")

        if await self._desk.books.read(lambda view: bool(view.in_state("unpaid"))):
            await self._desk.books.write(work)
            self._desk.ring()

    async def _rows(self, since: int) -> list[HistoryRow]:
        rows: list[HistoryRow] = []
        before: int | None = None
        for _ in range(MOST_PAGES):
            page = await self._desk.keepers.history(self._desk.account, since=since, before=before, limit=PAGE)
            rows += page
            if not page:
                break
            before = page[-1].cursor
        return rows

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
