"""What graders ask: for work, and to hand in results and grades."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from gridllm.errors import LeaderboardError, LedgerError, NotAccepted
from gridllm.ledger.paper import verify_delegation
from gridllm_leaderboard.desk.evidence import graders_by_model, results_of
from gridllm_leaderboard.desk.grades import check_grade
from gridllm_leaderboard.desk.guests import Guests
from gridllm_leaderboard.desk.parts import Parts
from gridllm_leaderboard.desk.work import wanted
from gridllm_leaderboard.messages import AskWork, PutGrade, PutLines, Taken, Task, Work
from gridllm_leaderboard.ranking.claims import verify_grade, verify_results
from gridllm_leaderboard.results import lines_root, read_items
from gridllm_leaderboard.statements import Failure, Grade, id_of, verify_document

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm.ids import PeerId
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.records import Round
    from gridllm_leaderboard.store.view import View

NOTHING: Final = Work(None, None, None, [])
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
        """What this grader is to grade. Raises NotAccepted: it is none."""
        grader, expires = await self._grader(peer, asked.delegation)
        self._guests.admit(peer, expires)
        return await self._desk.books.read(partial(self._work, grader=grader))

    async def put_lines(self, peer: PeerId, asked: PutLines) -> Taken:
        """A piece of a list of results. Raises NotAccepted."""
        desk = self._desk
        grader, _ = await self._grader(peer, asked.delegation)
        if await desk.books.read(lambda view: view.has_lines(asked.root)):
            return Taken(True, asked.total)
        round_ = await desk.books.read(lambda view: view.open_round())
        if round_ is None or round_.draw is None:
            raise NotAccepted("Nothing is graded now, so that no results are taken; ask for work again.")
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

    def _work(self, view: View, grader: str) -> Work:
        desk, round_ = self._desk, view.open_round()
        if round_ is None or round_.draw_raw is None:
            return NOTHING
        rules = desk.rules_of(view, round_.lock.rules)
        if grader not in rules.graders:
            return NOTHING
        entries = view.several(round_.graded)
        authors = {id_: entry.submission.account for id_, entry in entries.items()}
        judged = graders_by_model(view, round_.number)
        chosen = wanted(grader, rules, round_.graded, authors, judged, self._missing())
        if not chosen:
            return NOTHING
        tasks = [Task(entries[id_].raw, entries[id_].submission.serve) for id_ in chosen]
        return Work(desk.rules_raw(view, round_.lock.rules), round_.lock_raw, round_.draw_raw, tasks)

    def _check(self, view: View, said: Grade | Failure, id_: str) -> bool:
        """Whether it is here already. Raises NotAccepted, LeaderboardError: it is not taken."""
        if said.round > view.last_round():
            raise NotAccepted(f"There is no round {said.round}.")
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
