"""All checks of one submission, in the order in which one thing follows from the other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gridllm.charter.contest import Rules
from gridllm.charter.document import SignedCharter
from gridllm.errors import LeaderboardError
from gridllm.quantities import count_things
from gridllm_leaderboard.contamination import RUN_WORDS, overlaps_of, sharing
from gridllm_leaderboard.messages import Dossier, RankRow
from gridllm_leaderboard.ranking.claims import SAME
from gridllm_leaderboard.ranking.judge import Judgement
from gridllm_leaderboard.records import Mark
from gridllm_leaderboard.results import ItemResult, Line, lines_root, read_results
from gridllm_leaderboard.statements import Draw, Failure, Grade, Lock, Submission, Verdict, id_of
from gridllm_leaderboard.tasks.task import Task
from gridllm_leaderboard.verifying.annulled import told_of, verify_annulled
from gridllm_leaderboard.verifying.evidence import Evidence
from gridllm_leaderboard.verifying.items import verify_drawn, verify_items
from gridllm_leaderboard.verifying.papers import (
    verify_annulment,
    verify_draw,
    verify_failures,
    verify_grades,
    verify_lock,
    verify_rules,
    verify_submission,
    verify_verdict,
)
from gridllm_leaderboard.verifying.rounds import RoundPapers, facts_of, verify_judgement, verify_one_grade
from gridllm_leaderboard.verifying.walk import Walk

STALE_LOOKS: Final = 3
STALE_S: Final = 0.5

Progress = Callable[[str, int, int], None]
"""Called with (what, done, of how many)."""


@dataclass(slots=True)
class Found:
    """What was learned on the way, for a run here."""

    submission: Submission
    rules: Rules | None = None
    verdict: Verdict | None = None  # on its last round
    grades: list[Grade] = field(default_factory=list)  # of this submission that count
    items: dict[str, list[Line]] = field(default_factory=dict)
    results: dict[str, dict[str, list[ItemResult]]] = field(default_factory=dict)  # by grade's id, by task


async def examine(
    evidence: Evidence, signed: SignedCharter, asked: str, walk: Walk, progress: Progress = lambda *_: None
) -> Found:
    """Check everything about one submission but its weights.

    Raises:
        UnsoundError: the first thing that is wrong.
        SwarmError: nobody answers.
    """
    dossier = await evidence.dossier(asked, 0)
    with walk.step("the author's signature") as step:
        said = verify_submission(dossier, asked, signed.grid)
        step.detail = f"{said.name!r} by {said.account[:16]}…, root {said.root[:16]}…"
    found = Found(said)
    with walk.step("the rounds that were annulled") as step:
        void = verify_annulled(await evidence.annulled(), await evidence.reigns(), signed, evidence.account)
        step.detail = told_of(void, id_of(said))
    if dossier.lock is None:
        walk.leave_out("the round", f"it is {dossier.view.state}, and in no round yet")
        return found
    with walk.step("the maintainers' signatures on the rules") as step:
        rules = found.rules = verify_rules(dossier.rules, signed)
        graders = count_things(len(rules.graders), "grader")
        step.detail = f"rules {rules.serial}, {count_things(len(rules.tasks), 'task')}, {graders}"
    with walk.step("the lock") as step:
        lock = verify_lock(dossier, id_of(said), rules)
        against = "" if lock.champion is not None else "; nobody held the title"
        members = count_things(len(lock.submissions), "submission")
        step.detail = f"round {lock.round}, {members}, signed by the leaderboard{against}"
    if dossier.annulment is not None or lock.round in {one.number for one in void}:
        with walk.step("the annulment") as step:
            reason = verify_annulment(dossier.annulment, lock, rules, evidence.account).reason
            if dossier.verdict is not None:
                raise LeaderboardError(f"Round {lock.round} is annulled, and has a verdict.")
            step.detail = f"round {lock.round} is void ({reason}): nothing follows from it"
        return found
    if dossier.draw is None:
        walk.leave_out("the draw", f"round {lock.round} waits for the ledger's next head")
        return found
    with walk.step("the head and the draw") as step:
        draw = verify_draw(dossier, lock, rules, signed)
        step.detail = f"by a head that {lock.keeper[:16]}… signed after the lock"
    await _items(evidence, walk, rules, draw, found)
    papers = await _papers(evidence, walk, dossier, rules, lock, draw, progress)
    await _grades(evidence, walk, papers, found, progress)
    found.grades = [one for one in papers.grades.values() if one.submission == id_of(said)]
    if dossier.verdict is None:
        walk.leave_out("the verdict", f"round {lock.round} is graded still")
        return found
    with walk.step("the verdict") as step:
        verdict = found.verdict = verify_verdict(dossier.verdict, draw, rules)
        judgement, step.detail = await asyncio.to_thread(verify_judgement, facts_of(papers, found.results), verdict)
    found.grades = [one for one in found.grades if id_of(one) in judgement.counted]
    _report(walk, dossier, found.grades)
    await _place(evidence, walk, judgement, id_of(said))
    return found


async def _items(evidence: Evidence, walk: Walk, rules: Rules, draw: Draw, found: Found) -> None:
    for rule, drawn in zip(rules.tasks, draw.items, strict=True):
        what = f"the items of {rule.name}"
        with walk.step(what) as step:
            raw = await evidence.lines(drawn.root)
            items = found.items[rule.name] = await asyncio.to_thread(verify_items, raw, drawn, rule)
            task = await evidence.task(rule)
            again, why = await asyncio.to_thread(verify_drawn, items, draw, rule, task)
            step.detail = why if again else f"{count_things(len(items), 'item')} of the root that the draw names"
            if task is not None and task.commitment == rule.commitment:
                step.detail += await asyncio.to_thread(_shared, items, task)
        if not again:
            walk.leave_out(f"drawing the items of {rule.name} again", why)


def _shared(items: list[Line], task: Task) -> str:
    """How much of the items can be read in public ones: what repeats itself is learnt with these."""
    alike = round(sharing(items, task.practice()) * len(items))
    return f"; {alike} of them share a run of {RUN_WORDS} words with public ones"


async def _papers(
    evidence: Evidence, walk: Walk, own: Dossier, rules: Rules, lock: Lock, draw: Draw, progress: Progress
) -> RoundPapers:
    """Documents about everybody in the round: the verdict follows from all of them."""
    submissions: dict[str, Submission] = {}
    grades: dict[str, Grade] = {}
    failures: dict[str, Failure] = {}
    everyone = [*lock.submissions, *([lock.champion] if lock.champion is not None else [])]
    with walk.step("the signatures of all graders and authors of the round") as step:
        for number, submission in enumerate(everyone):
            progress("Fetching documents", number, len(everyone))
            paper = own if submission == own.view.id else await evidence.dossier(submission, lock.round)
            submissions[submission] = said = verify_submission(paper, submission, rules.grid)
            if (paper.lock, paper.draw, paper.verdict) != (own.lock, own.draw, own.verdict):
                raise LeaderboardError(f"About {said.name!r} the leaderboard shows another round {lock.round}.")
            grades |= verify_grades([*paper.grades, *paper.champion_grades], rules, draw)
            failures |= verify_failures(paper.failures, rules, draw)
        step.detail = f"{count_things(len(grades), 'grade')} of {count_things(len(everyone), 'model')}"
    return RoundPapers(rules, lock, draw, submissions, grades, list(failures.values()))


async def _grades(evidence: Evidence, walk: Walk, papers: RoundPapers, found: Found, progress: Progress) -> None:
    lists: dict[str, list[ItemResult]] = {}
    with walk.step("the results that the grades name") as step:
        for number, (id_, grade) in enumerate(papers.grades.items()):
            progress("Checking results", number, len(papers.grades))
            for task in grade.tasks:
                if task.results not in lists:
                    raw = await evidence.lines(task.results)
                    lists[task.results] = await asyncio.to_thread(_results, raw, task.results)
            results = found.results[id_] = {task.task: lists[task.results] for task in grade.tasks}
            await asyncio.to_thread(verify_one_grade, grade, papers, found.items, results)
        items = sum(map(len, lists.values()))
        step.detail = f"{count_things(items, 'result')}: items, points, means and standard errors follow"


def _results(raw: bytes, root: str) -> list[ItemResult]:
    if lines_root(raw) != root:
        raise LeaderboardError(f"A list of results is not the one that a grade names ({root[:16]}…).")
    return read_results(raw)


def _report(walk: Walk, dossier: Dossier, grades: Sequence[Grade]) -> None:
    """What is told of items learnt by heart follows from what graders signed of public items."""
    with walk.step("the report on public items") as step:
        facts = overlaps_of(grades)
        for task in sorted(facts.keys() | dossier.overlaps.keys()):
            told, fact = dossier.overlaps.get(task), facts.get(task)
            if told is None or fact is None or not math.isclose(told, fact, rel_tol=SAME, abs_tol=SAME):
                raise LeaderboardError(f"It says {told} of the task {task!r}; from the grades follows {fact}.")
        learnt = [task for task, points in sorted(facts.items()) if points > 0]
        step.detail = f"it learnt those of {', '.join(learnt)} by heart" if learnt else "nothing beyond noise"


async def _place(evidence: Evidence, walk: Walk, judgement: Judgement, submission: str) -> None:
    """The ranking shows the score that follows, unless another round was judged meanwhile."""
    mark = next((one for one in judgement.marks if one.submission == submission), None)
    if mark is None:
        walk.leave_out("the ranking", "the submission has no score")
        return
    row = await evidence.row(submission)
    for _ in range(STALE_LOOKS):
        if row is not None and row.round >= mark.round:
            break
        await asyncio.sleep(STALE_S)  # the ranking is worked out anew a moment after the verdict
        row = await evidence.row(submission)
    if row is not None and row.round > mark.round:
        walk.leave_out("the ranking", f"it shows round {row.round} by now, graded since this began: verify it again")
        return
    with walk.step("the ranking") as step:
        if row is None:
            raise LeaderboardError(f"The ranking lacks it; its score is {mark.score:.2f}.")
        _verify_row(row, mark)
        step.detail = f"place {row.place}, score {mark.score:.2f} ({mark.low:.2f} to {mark.high:.2f})"


def _verify_row(row: RankRow, mark: Mark) -> None:
    if row.round != mark.round:
        raise LeaderboardError(f"The ranking shows round {row.round}; it was graded in round {mark.round} last.")
    told = {"the score": (row.score.value, row.score.low, row.score.high)}
    told |= {task: (one.value, one.low, one.high) for task, one in row.tasks.items()}
    facts = {"the score": (mark.score, mark.low, mark.high), **mark.tasks}
    for name in sorted({*told, *facts}):
        if name not in told or name not in facts:
            raise LeaderboardError(f"The ranking shows {name} in round {row.round}, or its results do, and not both.")
        if not all(
            math.isclose(one, other, rel_tol=SAME, abs_tol=SAME)
            for one, other in zip(told[name], facts[name], strict=True)
        ):
            raise LeaderboardError(f"The ranking shows {told[name]} as {name}; from the results follows {facts[name]}.")
