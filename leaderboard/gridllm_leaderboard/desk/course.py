"""The course of a round: locked, drawn, judged; or annulled. Each step looks at the store first, so that it may be
tried again, and may find that the maintainer's command has ended the round.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from gridllm.errors import GridError
from gridllm_leaderboard.beacon import seed_of
from gridllm_leaderboard.contamination import overlaps_of
from gridllm_leaderboard.desk.annulling import annul, is_overdue, why_overdue
from gridllm_leaderboard.desk.beacons import head_after, newest_head
from gridllm_leaderboard.desk.deferring import Stand, deferred_of, note_disagreements, ready_to_lock, stand_of
from gridllm_leaderboard.desk.drawing import draw_of, items_of, spent_of
from gridllm_leaderboard.desk.evidence import facts_of, judged_counts
from gridllm_leaderboard.desk.regrading import in_turn
from gridllm_leaderboard.desk.rounds import lock_of, to_lock
from gridllm_leaderboard.desk.safekeeping import lost_champion
from gridllm_leaderboard.ranking.judge import RoundFacts, judge, verdict_of
from gridllm_leaderboard.records import ReignRow, Round
from gridllm_leaderboard.results import digest_of, write_items
from gridllm_leaderboard.statements import id_of, sign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.ranking.judge import Judgement
    from gridllm_leaderboard.store.batch import Batch

log = logging.getLogger(__name__)

SINCE_KEY: Final = "queue:since"  # Unix time; empty: nobody waits
HELD_UP: Final = "No round can begin now; the leaderboard's maintainer is told why."
LOOKED_FOR: Final = "No round begins while the champion's files are looked for, for a day at most."
DRAW_EVERY_S: Final = 0.5  # the keeper is asked for a head signed later than the lock


class Course:
    """Leads rounds from one step to the next."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.missing: Mapping[str, tuple[str, ...]] = {}
        """Where grades disagree: submission → graders who may be asked for one more."""
        self._judged_at: Stand | None = None  # when grades were missing: what disagrees is judged anew for a reason
        self._open = 0  # the round that was open when it was looked last; 0: none

    async def go_on(self) -> float:
        """Do what can be done now; in how many seconds to look again, unless the bell rings before.

        Raises:
            KeeperSilent, Refusal: a keeper does not answer.
            LeaderboardError: the store or a task cannot be used.
        """
        round_ = await self._desk.books.read(lambda view: view.open_round())
        await self._tell_annulled(0 if round_ is None else round_.number)
        if round_ is None:
            self.missing = {}
            lost = await self._desk.books.read(lost_champion)
            held_up = "" if lost is None else LOOKED_FOR
            try:
                return await self._lock()
            except GridError:
                held_up = HELD_UP
                raise
            finally:
                self._desk.held_up = held_up
        rules = await self._desk.books.read(lambda view: self._desk.rules_of(view, round_.lock.rules))
        if is_overdue(round_.lock, rules, self._desk.now):
            await self._give_up(round_, rules)
            return 0.0
        if round_.draw is None:
            return 0.0 if await self._draw(round_) else DRAW_EVERY_S
        return 0.0 if await self._judge(round_) else 30.0

    async def _lock(self) -> float:
        desk, rules = self._desk, self._desk.rules
        queued = await desk.books.read(in_turn)
        since = await desk.books.read(lambda view: view.value(SINCE_KEY))
        queued = await ready_to_lock(desk, queued, rules)
        if not queued:
            if since:  # who comes next is waited with for others, as if the queue had been empty
                await desk.books.write(lambda batch: batch.keep(SINCE_KEY, ""))
            return 30.0
        if not since:
            since = str(desk.now)
            await desk.books.write(lambda batch: batch.keep(SINCE_KEY, str(desk.now)))
        chosen = to_lock(queued, rules, int(since), desk.now)
        if not chosen:
            return max(1.0, min(30.0, int(since) + rules.round_s - desk.now))
        await self._check_pools(rules)  # raises: before anybody's model is locked
        beacon = await newest_head(desk.keepers, desk.account, desk.now)

        def work(batch: Batch) -> int:
            rules_id = desk.keep_rules(batch, rules)
            number = batch.last_round() + 1
            lock = lock_of(desk.signed.grid, number, rules_id, chosen, batch.champion(), beacon, desk.now)
            batch.lock(number, sign(lock, desk.identity), list(chosen))
            batch.keep(SINCE_KEY, "")
            return number

        number = await desk.books.write(work)
        desk.tell("locked", {"round": number, "submissions": list(chosen)})
        desk.ring()
        return 0.0

    async def _check_pools(self, rules: Rules) -> None:
        """Raises LeaderboardError: too few items are left of a pool; a round locked under these rules would not end."""
        desk = self._desk
        tasks = await desk.tasks_of(rules)
        spent = await desk.books.read(partial(spent_of, tasks=tasks))
        for rule in rules.tasks:
            if rule.name in spent:
                await asyncio.to_thread(tasks[rule.name].draw, bytes(32), rule.items, spent[rule.name])

    async def _draw(self, round_: Round) -> bool:
        desk, lock = self._desk, round_.lock
        head = await head_after(desk.keepers, lock)
        if head is None:
            return False
        rules = await desk.books.read(lambda view: desk.rules_of(view, lock.rules))
        tasks = await desk.tasks_of(rules)
        spent = await desk.books.read(partial(spent_of, tasks=tasks))
        drawn = await asyncio.to_thread(items_of, rules, tasks, seed_of(id_of(lock), head), spent)
        said = await asyncio.to_thread(draw_of, rules, lock, head, drawn, desk.now)
        raw = await asyncio.to_thread(sign, said, desk.identity)

        def work(batch: Batch) -> bool:
            found = batch.round(lock.round)
            if found is None or not found.open or found.draw is not None:
                return False
            for name, (root, items) in drawn.items():
                batch.put_lines(root, write_items(items))
                if not tasks[name].generated:
                    batch.spend(name, [digest_of(item) for item in items])
            return batch.draw(lock.round, raw)

        if await desk.books.write(work):
            desk.tell("drawn", {"round": lock.round, "items": {name: len(items) for name, (_, items) in drawn.items()}})
            desk.ring()
        return True

    async def _judge(self, round_: Round) -> bool:
        """Whether the round has come to its end."""
        desk = self._desk
        rules = await desk.books.read(lambda view: desk.rules_of(view, round_.lock.rules))
        stand = await desk.books.read(lambda view: stand_of(view, round_, rules, desk.now))
        if not stand.ready or self._judged_at == stand:
            return False
        facts = await desk.books.read(lambda view: facts_of(view, round_, rules, stand.deferred))
        judgement = await asyncio.to_thread(judge, facts)
        if judgement.missing:
            lacking = judgement.missing
            more = await desk.books.read(lambda view: deferred_of(view, round_, rules, desk.now, lacking))
            facts = dataclasses.replace(facts, deferred={*stand.deferred, *more})
            judgement = await asyncio.to_thread(judge, facts)
        self.missing = {one: lacking.of for one, lacking in judgement.missing.items()}
        if judgement.missing:
            self._judged_at = stand
            names = {one: {"more": lacking.more, "of": list(lacking.of)} for one, lacking in judgement.missing.items()}
            desk.tell("regrade", {"round": round_.number, "missing": names, "outliers": list(judgement.outliers)})
            return False
        await self._end(round_, facts, judgement, stand.heard)
        return True

    async def _end(self, round_: Round, facts: RoundFacts, judgement: Judgement, count: int) -> None:
        """Unless more than ``count`` grades and failures are here by now: a verdict counts all that were taken."""
        desk = self._desk
        rules = await desk.books.read(lambda view: desk.rules_of(view, round_.lock.rules))
        verdict = verdict_of(judgement, facts, desk.signed.grid, desk.now)
        raw = await asyncio.to_thread(sign, verdict, desk.identity)
        reign = reign_of(judgement, round_.number, verdict.issued, rules) if verdict.changed else None
        counted = [one.grade for one in facts.grades if one.id in judgement.counted]

        def work(batch: Batch) -> bool:
            found = batch.round(round_.number)
            if found is None or not found.open or sum(judged_counts(batch, round_.number).values()) != count:
                return False
            batch.judge(round_.number, raw, verdict, judgement.marks, reign)
            note_disagreements(batch, found, rules, verdict.deferred)
            for mark in judgement.marks:
                mine = [grade for grade in counted if grade.submission == mark.submission]
                batch.overlaps(mark.submission, overlaps_of(mine))
            return True

        if not await desk.books.write(work):
            return
        for id_ in verdict.deferred:
            desk.tell("deferred", {"round": round_.number, "submission": id_})
        facts_told = {"champion": verdict.champion, "changed": verdict.changed, "outliers": list(verdict.outliers)}
        desk.tell("judged", {"round": round_.number, **facts_told})
        desk.reranked()

    async def _give_up(self, round_: Round, rules: Rules) -> None:
        """Its time is over: judged if all is there, else annulled."""
        desk = self._desk
        try:
            if round_.draw is not None and await self._judge(round_):
                return
        except Exception:  # whatever keeps it from a verdict, it comes to its end
            log.exception("Round %d cannot be judged, and its time is over", round_.number)

        def work(batch: Batch) -> None:
            found = batch.round(round_.number)
            if found is not None and found.open:
                why = why_overdue(found, rules, judged_counts(batch, found.number))
                annul(batch, found.number, why, desk.identity, desk.now)

        await desk.books.write(work)

    async def _tell_annulled(self, number: int) -> None:
        """The open round is that one now (0: none); whoever annulled the one before, it is told once."""
        before, self._open = self._open, number
        if before in (0, number):
            return
        found = await self._desk.books.read(lambda view: view.round(before))
        if found is not None and found.annulment is not None:
            self._desk.tell("annulled", {"round": before, "text": found.annulment.reason})
            self._desk.ring()


def reign_of(judgement: Judgement, number: int, since: int, rules: Rules) -> ReignRow:
    """The new champion's. Pure."""
    mark = next(mark for mark in judgement.marks if mark.submission == judgement.champion)
    lead = next((one for one in judgement.comparisons if one.submission == mark.submission), None)
    return ReignRow(
        submission=mark.submission,
        since=since,
        round=number,
        score=mark.score,
        low=mark.low,
        high=mark.high,
        lead=None if lead is None else (lead.difference, lead.low, lead.high),
        bounty=rules.bounty,
    )
