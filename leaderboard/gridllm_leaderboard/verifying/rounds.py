"""A whole round: each grade against its results, and the verdict judged again. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridllm.charter.contest import Rules
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.claims import SAME, verify_grade, verify_results
from gridllm_leaderboard.ranking.judge import Graded, Judgement, RoundFacts, judge
from gridllm_leaderboard.results import ItemResult, Line
from gridllm_leaderboard.statements import Comparison, Draw, Failure, Grade, Lock, Submission, Verdict, id_of


@dataclass(frozen=True, slots=True)
class RoundPapers:
    """A round's documents, their signatures checked."""

    rules: Rules
    lock: Lock
    draw: Draw
    submissions: Mapping[str, Submission]  # by id: all that are locked, and the champion
    grades: Mapping[str, Grade]  # by id
    failures: Sequence[Failure]


def verify_one_grade(
    grade: Grade, papers: RoundPapers, items: Mapping[str, list[Line]], results: Mapping[str, list[ItemResult]]
) -> None:
    """Check one grade: of a model of the round, not by its author, of these items, and saying what its results say.

    Raises:
        LeaderboardError: names the first that is wrong.
    """
    said = papers.submissions.get(grade.submission)
    if said is None:
        raise LeaderboardError(f"A grade is of the submission {grade.submission[:16]}…, which is not in the round.")
    if grade.root != said.root:
        raise LeaderboardError(f"A grade of {said.name!r} is of another model: {grade.root[:16]}….")
    if grade.grader == said.account:
        raise LeaderboardError(f"The author of {said.name!r} graded it: {grade.grader[:16]}….")
    verify_grade(grade, papers.rules, papers.draw, results)
    for rule in papers.rules.tasks:
        verify_results(rule.kind, items[rule.name], results[rule.name], rule.name)


def facts_of(papers: RoundPapers, results: Mapping[str, Mapping[str, Sequence[ItemResult]]]) -> RoundFacts:
    """What the verdict follows from. ``results``: by grade's id, then by task."""
    return RoundFacts(
        round=papers.lock.round,
        draw=id_of(papers.draw),
        weights={task.name: task.weight for task in papers.rules.tasks},
        submissions=papers.lock.submissions,
        champion=papers.lock.champion,
        authors={submission: said.account for submission, said in papers.submissions.items()},
        eligible={one for one, said in papers.submissions.items() if said.serve},
        graders=papers.rules.graders,
        quorum=papers.rules.quorum,
        grades=[Graded(one, grade, results[one]) for one, grade in papers.grades.items()],
        failures=papers.failures,
    )


def verify_judgement(facts: RoundFacts, verdict: Verdict) -> tuple[Judgement, str]:
    """What follows from the round's grades, which is what the verdict says; and what is to be said about it.

    Raises:
        LeaderboardError: names what differs.
    """
    listed = {*verdict.grades, *verdict.outliers}
    lacking = listed - {one.id for one in facts.grades}
    if lacking:
        raise LeaderboardError(f"The verdict counts {len(lacking)} grades that the leaderboard does not show.")
    facts = _without_deferred(facts, verdict)
    found = judge(facts)
    differs = _difference(found, verdict)
    late = len(facts.grades) - len(listed)
    if not differs:
        return found, f"its grades ({len(facts.grades)}) make the same verdict"
    if late:  # a grade that came while the verdict was written
        of_those = dataclasses.replace(facts, grades=[one for one in facts.grades if one.id in listed])
        found = judge(of_those)
        if not _difference(found, verdict):
            return found, f"the {len(listed)} grades that it names make the same verdict; {late} more came too late"
    raise LeaderboardError(differs)


def _without_deferred(facts: RoundFacts, verdict: Verdict) -> RoundFacts:
    """Leave out what the verdict defers. That nobody was able to grade it is the leaderboard's word; that nobody's
    grades settle it can be checked. Raises LeaderboardError: they do.
    """
    if not verdict.deferred:
        return facts
    settled = {*verdict.deferred} - judge(facts).missing.keys()
    if settled:
        raise LeaderboardError(f"The verdict puts {min(settled)[:12]}… off, which has all the grades that it needs.")
    return dataclasses.replace(facts, deferred=verdict.deferred)


def _difference(found: Judgement, verdict: Verdict) -> str:
    """What of the verdict does not follow; empty: all does."""
    if found.missing:
        return f"{len(found.missing)} models lack grades, and there is a verdict already."
    for name, fact in (
        ("grades", found.counted),
        ("outliers", found.outliers),
        ("failed", found.failed),
        ("champion", found.champion),
        ("changed", found.changed),
    ):
        said = getattr(verdict, name)
        if said != fact:
            return f"The verdict says {name} {_short(said)}; from the grades follows {_short(fact)}."
    same = len(found.comparisons) == len(verdict.comparisons) and all(
        _alike(one, other) for one, other in zip(found.comparisons, verdict.comparisons, strict=True)
    )
    return "" if same else "The verdict compares models with the champion otherwise than their results do."


def _alike(one: Comparison, other: Comparison) -> bool:
    figures = ("difference", "low", "high")
    return one.submission == other.submission and all(
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=SAME, abs_tol=SAME) for name in figures
    )


def _short(said: object) -> str:
    if isinstance(said, tuple):
        return f"[{', '.join(f'{one[:12]}…' for one in said)}]"
    return f"{said[:12]}…" if isinstance(said, str) else str(said)
