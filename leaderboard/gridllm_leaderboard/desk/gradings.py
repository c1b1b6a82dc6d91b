"""What graders ask: for work, and to hand in results and grades."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from gridllm.errors import LeaderboardError, LedgerError, NotAccepted
from gridllm.ledger.paper import verify_delegation
from gridllm_leaderboard.desk.capacity import (
    GRADER_KEY,
    HEARD_EVERY_S,
    LATELY_S,
    WAITS,
    Capacity,
    capacity_of,
    kept_of,
    spelled,
)
from gridllm_leaderboard.desk.evidence import graders_by_model, results_of
from gridllm_leaderboard.desk.grades import check_grade
from gridllm_leaderboard.desk.guests import Guests
from gridllm_leaderboard.desk.parts import Parts
from gridllm_leaderboard.desk.work import wanted
from gridllm_leaderboard.messages import AskWork, Beyond, PutGrade, PutLines, Taken, Task, Work
from gridllm_leaderboard.ranking.claims import verify_grade, verify_results
from gridllm_leaderboard.results import lines_root, read_items
from gridllm_leaderboard.statements import Failure, Grade, id_of, verify_document
from gridllm_leaderboard.store.handed import check_not_annulled

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm.ids import PeerId
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.records import Entry, Round
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

MOST_BEYOND: Final = 64  # models that a grader is told of which it is not able to grade
LISTS: Final = 4  # that a grader may hand in of each model and task of a round: kernels differ when it is run anew

Missing = Callable[[], Mapping[str, tuple[str, ...]]]
"""Where grades disagree: submission → graders who may be asked for one more."""


class Gradings:
    """The calls of graders."""

    def __init__(self, desk: Desk, guests: Guests, missing: Missing) -> None:
        """
        Args:
            guests: told which peers are graders' and may have weights that are not listed.
            missing: of the round that is open.
        """
        self._desk = desk
        self._guests = guests
        self._missing = missing
        self._parts = Parts()
        self._lists: Counter[tuple[int, str]] = Counter()  # kept since the start, by round and grader

    async def work(self, peer: PeerId, asked: AskWork) -> Work:
        """What this grader is to grade, of what it is able to. Raises NotAccepted: it is none."""
        grader, expires = await self._grader(peer, asked.delegation)
        self._guests.admit(peer, expires)
        capacity = capacity_of(asked, self._desk.now)
        await self._hear(grader, capacity)
        return await self._desk.books.read(partial(self._work, grader=grader, capacity=capacity))

    async def put_lines(self, peer: PeerId, asked: PutLines) -> Taken:
        """A piece of a list of results. Raises NotAccepted."""
        desk = self._desk
        grader, _ = await self._grader(peer, asked.delegation)
        await self._hear(grader)
        if await desk.books.read(lambda view: view.has_lines(asked.root)):
            return Taken(True, asked.total)
        round_ = await desk.books.read(lambda view: view.open_round())
        if round_ is None or round_.draw is None:
            raise NotAccepted("No round is being graded now, so no results are accepted; ask for work again.")
        if self._lists[round_.number, grader] >= LISTS * len(round_.graded) * len(round_.draw.items):
            raise NotAccepted("You handed in more lists of results than this round has; ask for work again.")
        offset, whole = self._parts.add(grader, asked)
        if whole is None:
            return Taken(False, offset)
        if await asyncio.to_thread(lines_root, whole) != asked.root:
            raise NotAccepted(f"The results do not have the root {asked.root[:16]}…: they were altered on the way.")
        await desk.books.write(lambda batch: batch.put_lines(asked.root, whole))
        self._lists = Counter({key: count for key, count in self._lists.items() if key[0] == round_.number})
        self._lists[round_.number, grader] += 1
        return Taken(False, asked.total)

    async def put_grade(self, _: PeerId, asked: PutGrade) -> Taken:
        """A grade, or that a model could not be run. Raises NotAccepted: names the rule that it breaks."""
        desk = self._desk
        try:
            said = await asyncio.to_thread(self._verified, asked)
            id_ = id_of(said)
            if await desk.books.read(partial(self._check, said=said, id_=id_)):
                return Taken(True)
            known = not await desk.books.write(partial(self._keep, said=said, id_=id_, raw=asked.document))
        except LeaderboardError as error:
            raise NotAccepted(str(error)) from error
        if not known:
            facts = {"round": said.round, "submission": said.submission, "grader": said.grader}
            desk.tell("failure" if isinstance(said, Failure) else "graded", facts)
            desk.ring()
        return Taken(known)

    async def _hear(self, grader: str, said: Capacity | None = None) -> None:
        """A grader is there, and able to do what it says; None: what it said before."""
        desk = self._desk
        before = await desk.books.read(partial(kept_of, grader=grader))
        now = said or before
        if now is None:
            return
        silent_s = desk.now - (0 if before is None else before.heard)
        news = before is None or before.silent != now.silent
        if not news and silent_s < HEARD_EVERY_S:
            return
        kept = spelled(msgspec.structs.replace(now, heard=desk.now))
        await desk.books.write(lambda batch: batch.keep(GRADER_KEY + grader, kept))
        if news or silent_s > LATELY_S:
            desk.ring()  # a model that waited for such a grader can be locked; or one is to be deferred

    def _work(self, view: View, grader: str, capacity: Capacity) -> Work:
        desk, round_ = self._desk, view.open_round()
        waiting = [one for one in view.in_state("queued") if one.why.startswith(WAITS)]
        if round_ is None or round_.draw_raw is None:
            return Work(None, None, None, [], _beyond(waiting, grader, capacity))
        rules = desk.rules_of(view, round_.lock.rules)
        entries = view.several(round_.graded)
        authors = {id_: entry.submission.account for id_, entry in entries.items()}
        judged = graders_by_model(view, round_.number)
        asked = [entries[id_] for id_ in wanted(grader, rules, round_.graded, authors, judged, self._missing())]
        chosen = [one for one in asked if capacity.able(one.id, one.submission)]
        beyond = _beyond([*asked, *waiting], grader, capacity)
        if not chosen:
            return Work(None, None, None, [], beyond)
        tasks = [Task(one.raw, one.submission.serve) for one in chosen]
        return Work(desk.rules_raw(view, round_.lock.rules), round_.lock_raw, round_.draw_raw, tasks, beyond)

    def _check(self, view: View, said: Grade | Failure, id_: str) -> bool:
        """Whether it is here already. Raises NotAccepted, LeaderboardError: it is not taken."""
        named = view.round(said.round)
        if named is None:
            raise NotAccepted(f"There is no round {said.round}.")
        check_not_annulled(named)
        grades = view.grades(said.round, said.submission)
        failures = view.failures(said.round, said.submission)
        if id_ in {*(one.id for one in grades), *(one.id for one in failures)}:
            return True
        judged = {*(one.document.grader for one in grades), *(one.document.grader for one in failures)}
        round_ = view.open_round()
        rules = self._desk.rules if round_ is None else self._desk.rules_of(view, round_.lock.rules)
        models = {} if round_ is None else view.several(round_.graded)
        submissions = {name: entry.submission for name, entry in models.items()}
        check_grade(said, rules, round_, submissions, judged)
        if isinstance(said, Grade) and round_ is not None:
            _check_figures(view, said, rules, round_)
        return False

    def _verified(self, asked: PutGrade) -> Grade | Failure:
        grid, account = self._desk.signed.grid, self._desk.account
        if asked.failure:
            return verify_document(asked.document, Failure, grid, account)
        return verify_document(asked.document, Grade, grid, account)

    def _keep(self, batch: Batch, said: Grade | Failure, id_: str, raw: bytes) -> bool:
        if isinstance(said, Failure):
            return batch.failure(id_, raw, said)
        return batch.grade(id_, raw, said)

    async def _grader(self, peer: PeerId, raw: bytes) -> tuple[str, int]:
        """The grader's account, and until when its delegation holds. Raises NotAccepted."""
        desk = self._desk
        try:
            said = await asyncio.to_thread(verify_delegation, raw, desk.signed.grid, peer, desk.clock())
        except LedgerError as error:
            raise NotAccepted(str(error)) from error
        if said.account not in await desk.books.read(self._graders):
            raise NotAccepted(
                f"{said.account[:16]}… is no grader of this leaderboard; its maintainers add one with: "
                "gridllm leaderboard init --grader"
            )
        return said.account, said.expires

    def _graders(self, view: View) -> set[str]:
        """By the rules that hold, and by those of the round that is open."""
        round_ = view.open_round()
        found = set(self._desk.rules.graders)
        return found if round_ is None else found | set(self._desk.rules_of(view, round_.lock.rules).graders)


def _beyond(entries: Sequence[Entry], grader: str, capacity: Capacity) -> list[Beyond]:
    """Those that this grader is not able to grade, and might be asked to."""
    found = [
        one.submission
        for one in entries
        if one.submission.account != grader and not capacity.able(one.id, one.submission)
    ]
    return [Beyond(said.name, said.parameters, said.size, said.serve) for said in found[:MOST_BEYOND]]


def _check_figures(view: View, said: Grade, rules: Rules, round_: Round) -> None:
    """Raises LeaderboardError: the grade's results are not here, not of the items, or do not say what it says."""
    if round_.draw is None:
        raise LeaderboardError(f"Round {round_.number} is not drawn yet.")
    results = results_of(view, said)
    verify_grade(said, rules, round_.draw, results)
    kinds = {task.name: task.kind for task in rules.tasks}
    for drawn in round_.draw.items:
        raw = view.lines(drawn.root)
        if raw is None:
            raise LeaderboardError(f"The items of the task {drawn.task!r} are not in the leaderboard's store.")
        verify_results(kinds[drawn.task], read_items(raw), results[drawn.task], drawn.task)
