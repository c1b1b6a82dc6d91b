"""The end of a round: from its grades to its verdict. A pure function, so that anyone can check the leaderboard."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gridllm_leaderboard.ranking.agreement import Settled, Vote, settle
from gridllm_leaderboard.ranking.measured import Measured, measured, median_of
from gridllm_leaderboard.ranking.score import scores
from gridllm_leaderboard.records import Mark
from gridllm_leaderboard.results import ItemResult
from gridllm_leaderboard.statements import Comparison, Failure, Grade, Verdict


class Graded(NamedTuple):
    """A grade with the results that it names."""

    id: str
    grade: Grade
    results: Mapping[str, Sequence[ItemResult]]  # by task


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What a verdict follows from."""

    round: int
    draw: str  # id
    weights: Mapping[str, int]  # by task
    submissions: Sequence[str]  # that are locked
    champion: str | None  # submission of the reigning one
    authors: Mapping[str, str]  # submission → account, the champion's too: nobody grades their own
    eligible: Collection[str]  # submissions that the grid may serve: others cannot become champion
    graders: Collection[str]  # accounts whose grades count
    quorum: int
    grades: Sequence[Graded]
    failures: Sequence[Failure]
    deferred: Collection[str] = ()  # models that no grader is able to grade now: left out


@dataclass(frozen=True, slots=True)
class Missing:
    """What a model still lacks."""

    more: int  # grades
    of: tuple[str, ...]  # graders who may give them: those who have not yet, and are not the author


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from a round's grades; while some are missing, only what is missing and what is settled."""

    counted: tuple[str, ...] = ()  # grades, sorted
    outliers: tuple[str, ...] = ()  # grades, sorted
    failed: tuple[str, ...] = ()  # submissions, sorted
    missing: Mapping[str, Missing] = field(default_factory=dict)  # by submission
    comparisons: tuple[Comparison, ...] = ()  # sorted by submission
    champion: str | None = None  # from now on
    changed: bool = False
    marks: tuple[Mark, ...] = ()  # of all that were graded, the champion included


def judge(facts: RoundFacts) -> Judgement:
    """Judge a round.

    A challenger wins when the lower bound of the 95% interval of its lead over the champion, by the paired bootstrap,
    is above zero; of several the one with the best score. Without a champion the best score becomes it. A round in
    which the champion could not be graded has no comparisons, and changes nothing. What is deferred is no part of it.

    Raises:
        LeaderboardError: results are of different items or tasks.
    """
    everyone = sorted({*facts.submissions, *([facts.champion] if facts.champion else [])} - {*facts.deferred})
    votes = {submission: list(_votes(facts, submission)) for submission in everyone}
    settled = {submission: _settle(facts, submission, votes[submission]) for submission in everyone}
    counted = sorted(one for outcome in settled.values() for one in outcome.counted)
    outliers = sorted(one for outcome in settled.values() for one in outcome.outliers)
    failed = tuple(one for one in everyone if settled[one].failed and one != facts.champion)
    missing = {
        submission: Missing(outcome.more, _could_grade(facts, submission, votes[submission]))
        for submission, outcome in settled.items()
        if outcome.more
    }
    so_far = Judgement(tuple(counted), tuple(outliers), failed, missing, champion=facts.champion)
    graded = [submission for submission in everyone if settled[submission].counted]
    return so_far if missing or not graded else _compare(facts, so_far, settled, graded)


def verdict_of(judgement: Judgement, facts: RoundFacts, grid: str, issued: int) -> Verdict:
    """The document, to be signed once nothing is missing."""
    return Verdict(
        grid=grid,
        round=facts.round,
        draw=facts.draw,
        grades=judgement.counted,
        outliers=judgement.outliers,
        failed=judgement.failed,
        comparisons=judgement.comparisons,
        champion=judgement.champion,
        changed=judgement.changed,
        deferred=tuple(sorted(facts.deferred)),
        issued=issued,
    )


def _compare(facts: RoundFacts, so_far: Judgement, settled: Mapping[str, Settled], graded: list[str]) -> Judgement:
    by_id = {one.id: one for one in facts.grades}
    models = [_median([by_id[grade] for grade in settled[submission].counted]) for submission in graded]
    found = scores(models, facts.weights, facts.draw)
    marks = tuple(
        Mark(submission, facts.round, one.score, one.low, one.high, dict(one.tasks))
        for submission, one in zip(graded, found.scored, strict=True)
    )
    comparisons: list[Comparison] = []
    if facts.champion in graded:
        reigning = graded.index(facts.champion)
        for index, submission in enumerate(graded):
            if index != reigning:
                difference, low, high = found.lead(index, reigning)
                comparisons.append(Comparison(submission=submission, difference=difference, low=low, high=high))
    ahead = {one.submission for one in comparisons if one.low > 0} if facts.champion else set(graded)
    # Of equal scores the smaller id: any rule would do that everyone can follow.
    winners = sorted((-mark.score, mark.submission) for mark in marks if mark.submission in ahead & {*facts.eligible})
    champion = winners[0][1] if winners else facts.champion
    return Judgement(
        so_far.counted,
        so_far.outliers,
        so_far.failed,
        {},
        tuple(comparisons),
        champion,
        bool(winners),
        marks,
    )


def _median(grades: Sequence[Graded]) -> dict[str, Measured]:
    tasks = [{task: measured(results) for task, results in one.results.items()} for one in grades]
    return {task: median_of([one[task] for one in tasks if task in one]) for task in tasks[0]}


def _votes(facts: RoundFacts, submission: str) -> Iterator[Vote]:
    """One for each grader who may grade it: its first grade, else that it could not run the model."""
    may = set(facts.graders) - {facts.authors.get(submission)}
    mine = sorted(
        (one for one in facts.grades if one.grade.submission == submission and one.grade.grader in may),
        key=lambda one: (one.grade.issued, one.id),
    )
    first = {one.grade.grader: one for one in reversed(mine)}
    for grader in sorted(first):
        results = first[grader].results
        points = [one.points for task in sorted(facts.weights) for one in results.get(task, ())]
        yield Vote(grader, first[grader].id, np.array(points, dtype=np.float64))
    for grader in sorted({one.grader for one in facts.failures if one.submission == submission} & may - first.keys()):
        yield Vote(grader, None, None)


def _could_grade(facts: RoundFacts, submission: str, votes: Sequence[Vote]) -> tuple[str, ...]:
    done = {vote.grader for vote in votes} | {facts.authors.get(submission)}
    return tuple(sorted(set(facts.graders) - done))


def _settle(facts: RoundFacts, submission: str, votes: Sequence[Vote]) -> Settled:
    """Where nobody is left who could be asked, what is not settled has failed: a round must come to its end."""
    left = len(_could_grade(facts, submission, votes))
    outcome = settle(votes, min(facts.quorum, len(votes) + left))
    return outcome if not outcome.more or left else Settled((), (), True, 0)
