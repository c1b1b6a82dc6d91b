"""What authors ask: to enter a submission, to bring its files, to take it down."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel

from gridllm.errors import LeaderboardError, NotAccepted
from gridllm.ids import ModelRoot
from gridllm_leaderboard.desk.contributions import Contributions
from gridllm_leaderboard.desk.intake import DAY_S, Held, check_contribution, check_held, check_words
from gridllm_leaderboard.desk.views import submission_view
from gridllm_leaderboard.records import Entry
from gridllm_leaderboard.statements import Submission, Withdrawal, id_of, verify_document
from gridllm_leaderboard.upload.interface import Expected

if TYPE_CHECKING:
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.messages import SubmissionView
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

MOST_BYTES: Final = 8 * 1024  # of an author's document: 6 KiB at most in gridllm's spelling; a round's fit one answer
LATEST: Final = 1000  # of an account's submissions that are looked through for those not brought or paid: a week's

D = TypeVar("D", bound=BaseModel)


class Reception:
    """``upload.interface.Uploads``, and the calls of authors."""

    def __init__(self, desk: Desk, contributions: Contributions) -> None:
        self._desk = desk
        self._contributions = contributions
        self._entering = asyncio.Lock()

    async def enter(self, raw: bytes) -> SubmissionView:
        """Take a submission, once; what is said again is answered with how it stands.

        Raises:
            NotAccepted: says why.
            Full, KeeperSilent: come again.
        """
        desk = self._desk
        said = await self._verified(raw, Submission)
        id_, rules = id_of(said), desk.rules
        known = await desk.books.read(partial(self._view, id_=id_))
        if known is not None:
            return known
        check_words(said, rules, [model.name for model in desk.signed.charter.models], desk.clock())
        await desk.books.read(partial(self._check_held, said=said))
        needed = desk.signed.charter.economy.submit
        if needed:
            check_contribution(await self._contributions.of(said.account), needed)
        entry = Entry(id_, raw, said, "uploading", desk.now)
        async with self._entering:  # room is promised for what is entered, and for nothing else
            known = await desk.books.read(partial(self._view, id_=id_))
            if known is not None:
                return known
            await desk.books.read(partial(self._check_held, said=said))
            await asyncio.to_thread(desk.vault.reserve, said.root, said.size)
            try:
                await desk.books.write(lambda batch: batch.enter(entry))
            except BaseException:
                desk.vault.room.release(said.root)
                raise
        desk.tell("entered", {"submission": id_, "account": said.account, "name": said.name})
        return submission_view(entry, rules, None)

    async def withdraw(self, raw: bytes) -> SubmissionView:
        """Take a submission down, once.

        Raises:
            NotAccepted: it cannot be now, or is another's.
        """
        said = await self._verified(raw, Withdrawal)
        desk = self._desk

        def work(batch: Batch) -> str | None:
            entry = batch.entry(said.submission)
            if entry is None or entry.submission.account != said.account:
                raise NotAccepted(f"The account {said.account[:16]}… has no submission {said.submission[:16]}….")
            if entry.state == "withdrawn":
                return None
            if batch.champion() == entry.id:
                raise NotAccepted(f"{entry.submission.name!r} is champion; it can be withdrawn once another one is.")
            if entry.state == "locked":
                raise NotAccepted(f"{entry.submission.name!r} is graded just now; withdraw it after the round.")
            if entry.state == "refused":
                raise NotAccepted(f"{entry.submission.name!r} was refused: there is nothing to withdraw.")
            batch.withdraw(entry.id, raw)
            return entry.submission.root

        root = await desk.books.write(work)
        if root is not None:
            await asyncio.to_thread(desk.vault.remove, root)
            desk.reranked()
            desk.tell("withdrawn", {"submission": said.submission, "account": said.account})
        return await self.view(said.submission)

    async def view(self, id_: str) -> SubmissionView:
        """How a submission stands. Raises NotAccepted: there is none."""
        found = await self._desk.books.read(partial(self._view, id_=id_))
        if found is None:
            raise NotAccepted(f"There is no submission {id_[:16]}….")
        return found

    # upload.interface.Uploads

    async def expected(self, submission: str, account: str) -> Expected:
        """What is to come. Raises NotAccepted."""
        entry = await self._desk.books.read(lambda view: view.entry(submission))
        if entry is None or entry.submission.account != account:
            raise NotAccepted(f"The account {account[:16]}… has no submission {submission[:16]}….")
        if entry.state != "uploading":
            raise NotAccepted(f"The submission {submission[:16]}… is {entry.state}: no files are awaited for it.")
        said = entry.submission
        return Expected(ModelRoot(said.root), said.weights, said.size, said.parameters)

    async def arrived(self, submission: str) -> None:
        """All files are here."""

        def work(batch: Batch) -> bool:
            entry = batch.entry(submission)
            if entry is None or entry.state != "uploading":
                return False
            batch.state(submission, "checking")
            return True

        if await self._desk.books.write(work):
            self._desk.tell("uploaded", {"submission": submission})
            self._desk.ring()

    async def refused(self, submission: str, why: str) -> None:
        """Its manifest is none that can be graded."""

        def work(batch: Batch) -> str | None:
            entry = batch.entry(submission)
            if entry is None or entry.state != "uploading":
                return None
            batch.state(submission, "refused", why)
            return entry.submission.root

        root = await self._desk.books.write(work)
        if root is not None:
            await asyncio.to_thread(self._desk.vault.remove, root)
            self._desk.tell("refused", {"submission": submission, "text": why})

    def _view(self, view: View, id_: str) -> SubmissionView | None:
        entry = view.entry(id_)
        return None if entry is None else submission_view(entry, self._desk.rules, view.champion(), self._desk.held_up)

    def _check_held(self, view: View, said: Submission) -> None:
        rules, today = self._desk.rules, view.count(said.account, self._desk.now - DAY_S)
        full = today >= rules.daily
        latest = [] if full else view.entries(said.account, limit=LATEST)
        leaving = view.entries(said.account, rules.daily - 1, 1) if full else []
        held = Held(
            today=today,
            root=view.with_root(said.root),
            weights=view.with_weights(said.weights),
            name=view.with_name(said.name.casefold()),
            begun=sum(one.state in ("uploading", "checking", "unpaid") for one in latest),
            next_s=max((one.entered + DAY_S - self._desk.now for one in leaving), default=0),
        )
        check_held(said, rules, held)

    async def _verified(self, raw: bytes, kind: type[D]) -> D:
        desk = self._desk
        if len(raw) > MOST_BYTES:
            raise NotAccepted(
                f"A {kind.__name__.lower()} of {len(raw):,} bytes is larger than its words are; sign it with gridllm."
            )
        try:
            return await asyncio.to_thread(verify_document, raw, kind, desk.signed.grid, desk.account)
        except LeaderboardError as error:
            raise NotAccepted(str(error)) from error
