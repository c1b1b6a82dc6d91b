"""What a round's judgement is made from, out of the store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.judge import Graded, RoundFacts
from gridllm_leaderboard.results import read_results
from gridllm_leaderboard.statements import id_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.records import Round
    from gridllm_leaderboard.results import ItemResult
    from gridllm_leaderboard.statements import Failure, Grade
    from gridllm_leaderboard.store.view import View


def facts_of(view: View, round_: Round, rules: Rules, deferred: Collection[str] = ()) -> RoundFacts:
    """All that the verdict follows from. ``deferred``: what no grader is able to grade now.

    Raises:
        LeaderboardError: the round is not drawn, or something of it is not in the store.
    """
    if round_.draw is None:
        raise LeaderboardError(f"Round {round_.number} is not drawn yet.")
    entries = view.several(round_.graded)
    if lost := set(round_.graded) - entries.keys():
        raise LeaderboardError(f"The submission {min(lost)[:16]}… of round {round_.number} is not in the store.")
    return RoundFacts(
        round=round_.number,
        draw=id_of(round_.draw),
        weights={task.name: task.weight for task in rules.tasks},
        submissions=round_.lock.submissions,
        champion=round_.lock.champion,
        authors={id_: entry.submission.account for id_, entry in entries.items()},
        eligible=[id_ for id_, one in entries.items() if one.submission.serve],
        graders=rules.graders,
        quorum=rules.quorum,
        grades=[Graded(kept.id, kept.document, results_of(view, kept.document)) for kept in view.grades(round_.number)],
        failures=[kept.document for kept in view.failures(round_.number)],
        deferred=deferred,
    )


def results_of(view: View, grade: Grade) -> Mapping[str, Sequence[ItemResult]]:
    """The results that a grade names, by task. Raises LeaderboardError: a list is not in the store."""
    found = {}
    for task in grade.tasks:
        raw = view.lines(task.results)
        if raw is None:
            raise LeaderboardError(f"The results {task.results[:16]}… of a grade are not here; put them first.")
        found[task.task] = read_results(raw)
    return found


def graders_by_model(view: View, number: int) -> dict[str, set[str]]:
    """Who graded each model of a round, or could not run it."""
    found: dict[str, set[str]] = {}
    documents: list[Grade | Failure] = [kept.document for kept in view.grades(number)]
    documents += [kept.document for kept in view.failures(number)]
    for said in documents:
        found.setdefault(said.submission, set()).add(said.grader)
    return found


def judged_counts(view: View, number: int) -> Counter[str]:
    """How many did."""
    return Counter({submission: len(graders) for submission, graders in graders_by_model(view, number).items()})
