"""Graded models that are graded once more: when the rules' tasks or their weights changed, and their authors ask."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gridllm.errors import LedgerError, NotAccepted
from gridllm.ledger.paper import verify_delegation
from gridllm.quantities import count_things
from gridllm_leaderboard.desk.deferring import why_none_can
from gridllm_leaderboard.desk.safekeeping import lost_champion
from gridllm_leaderboard.desk.views import submission_view
from gridllm_leaderboard.ranking.yardstick import yardstick
from gridllm_leaderboard.statements import Verdict
from gridllm_leaderboard.store.spelling import document_of
from gridllm_leaderboard.store.view import VACANT_KEY

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm.ids import PeerId
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.messages import Regrade, SubmissionView
    from gridllm_leaderboard.records import Entry
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View


class Regrading:
    """The call of authors whose models were graded by other tasks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ask(self, peer: PeerId, asked: Regrade) -> SubmissionView:
        """Queue it, without a fee; what waits already is answered with how it stands.

        Raises:
            NotAccepted: says why not.
        """
        desk = self._desk
        try:
            said = await asyncio.to_thread(verify_delegation, asked.delegation, desk.signed.grid, peer, desk.clock())
        except LedgerError as error:
            raise NotAccepted(str(error)) from error
        entry = await desk.books.read(lambda view: view.entry(asked.submission))
        if entry is None or entry.submission.account != said.account:
            raise NotAccepted(f"The account {said.account[:16]}… has no submission {asked.submission[:16]}….")
        here = await asyncio.to_thread(desk.vault.folder, entry.submission.root) is not None
        queued, view = await desk.books.write(partial(self._queue, id_=entry.id, here=here))
        if queued:
            desk.tell("queued again", {"submission": entry.id})
            desk.reranked()
        return view

    def _queue(self, batch: Batch, id_: str, here: bool) -> tuple[bool, SubmissionView]:
        desk = self._desk
        entry, rules, champion = batch.several([id_])[id_], desk.rules, batch.champion()
        waits = entry.state in ("queued", "locked")
        if not waits:
            others = waiting_again(batch, entry.submission.account)
            reigns = batch.reigns()
            last = reigns[-1].submission if reigns else None  # where the title is vacant it may come back to that one
            lost = batch.value(VACANT_KEY) == id_ != last
            owed = lost or never_met(batch, id_, rules, desk.now)
            measured = measured_by(batch, desk, id_)
            check_regrade(entry, rules, measured, others, champion=last == id_, here=here, owed=owed)
            if lost:
                batch.keep(VACANT_KEY, "")  # once
            batch.state(id_, "queued")
            entry = batch.several([id_])[id_]
        return not waits, submission_view(entry, rules, champion, desk.held_up)


def check_regrade(
    entry: Entry,
    rules: Rules,
    measured: Rules | None,
    waiting: int,
    *,
    champion: bool,
    here: bool,
    owed: bool = False,
) -> None:
    """Whether a submission may be graded again. Pure.

    Args:
        measured: the rules that it was graded by last; None: it never was.
        waiting: graded models of its author's that wait to be graded again.
        champion: it reigns, or nobody followed it yet: queued, it could be locked to meet itself.
        here: its weights are.
        owed: it lost the title because the leaderboard lost its files, and not to the one who has it now; or it never
            met the champion, which nobody was able to grade then.

    Raises:
        NotAccepted: says why not.
    """
    name = entry.submission.name
    if entry.state != "graded" or measured is None:
        raise NotAccepted(f"{name!r} is {entry.state}; only what was graded can be graded again.")
    if champion:
        raise NotAccepted(
            f"{name!r} is champion, or was it last and nobody followed it yet: each round grades it again anyway."
        )
    if yardstick(measured) == yardstick(rules) and not owed:
        raise NotAccepted(f"{name!r} was graded by the tasks that hold now; it is graded again when they change.")
    if not here:
        raise NotAccepted(f"The files of {name!r} are not on the leaderboard's disk any more; tell its maintainer.")
    if waiting >= rules.daily:
        raise NotAccepted(f"{count_things(waiting, 'model')} of yours wait to be graded again already.")


def never_met(view: View, submission: str, rules: Rules, now: int) -> bool:
    """Whether its last round put the champion off that reigns still, and somebody is able to grade that one now."""
    number = next((mark.round for mark in view.marks() if mark.submission == submission), 0)
    verdict, champion = view.verdict(number), view.champion()
    entry = None if champion is None else view.entry(champion)
    if verdict is None or entry is None or entry.id not in document_of(verdict, Verdict).deferred:
        return False
    return not why_none_can(view, rules, [entry], now)


def in_turn(view: View) -> list[Entry]:
    """Submissions that may be locked: those that have no place yet, the oldest first, then those that have one.

    None while the champion's files are looked for, whom they are to be measured against.
    """
    if lost_champion(view) is not None:
        return []
    return sorted(view.in_state("queued"), key=lambda entry: entry.round > 0)


def waiting_again(view: View, account: str) -> int:
    """How many graded models of that author's are to be graded again."""
    mine = {entry.id for entry in view.in_state("queued", "locked") if entry.submission.account == account}
    return sum(mark.submission in mine for mark in view.marks()) if mine else 0


def measured_by(view: View, desk: Desk, submission: str) -> Rules | None:
    """The rules that a submission was graded by last; None: it never was. Raises LeaderboardError."""
    number = next((mark.round for mark in view.marks() if mark.submission == submission), 0)
    round_ = view.round(number) if number else None
    return None if round_ is None else desk.rules_of(view, round_.lock.rules)
