"""Which models a grader is asked to grade. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gridllm.charter.contest import Rules


def wanted(
    grader: str,
    rules: Rules,
    models: Sequence[str],
    authors: Mapping[str, str],
    judged: Mapping[str, Collection[str]],
    missing: Mapping[str, Collection[str]],
) -> list[str]:
    """Submissions whose grade by this grader is wanted, those that nobody has graded yet first.

    Args:
        models: submissions of the round, the champion included.
        authors: their accounts: nobody grades a model of their own.
        judged: graders who graded it, or could not run it, by submission.
        missing: where grades disagree: who may be asked for one more.
    """

    def is_wanted(submission: str) -> bool:
        done = judged.get(submission, ())
        if grader in done or authors.get(submission) == grader:
            return False
        return len(done) < rules.quorum or grader in missing.get(submission, ())

    if grader not in rules.graders:
        return []
    found = [submission for submission in models if is_wanted(submission)]
    return sorted(found, key=lambda submission: (len(judged.get(submission, ())), models.index(submission)))


def may_be_judged(rules: Rules, models: Sequence[str], authors: Mapping[str, str], judged: Mapping[str, int]) -> bool:
    """Whether every model has as many grades as it needs, or can get: before, judging tells nothing."""

    def enough(submission: str) -> bool:
        eligible = sum(grader != authors.get(submission) for grader in rules.graders)
        return judged.get(submission, 0) >= min(rules.quorum, eligible)

    return all(enough(submission) for submission in models)
