"""Whether a grade, or a grader's word that a model could not be run, is taken. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gridllm.charter.contest import Rules
from gridllm.errors import NotAccepted
from gridllm_leaderboard.records import Round
from gridllm_leaderboard.statements import Failure, Grade, Submission, id_of


def check_grade(
    said: Grade | Failure,
    rules: Rules,
    open_round: Round | None,
    models: Mapping[str, Submission],
    judged: Collection[str],
) -> None:
    """Whether this grader may say this now; its figures are checked against its results elsewhere.

    Args:
        open_round: the round that is graded now.
        models: what it grades, by submission, the champion included.
        judged: graders who graded that submission in that round already.

    Raises:
        NotAccepted: says which rule it breaks.
    """
    whose = f"{said.grader[:16]}…"
    if said.grader not in rules.graders:
        raise NotAccepted(f"{whose} is no grader of this leaderboard; its rules name them.")
    if open_round is None or open_round.draw is None or said.round != open_round.number:
        raise NotAccepted(f"Round {said.round} is not graded now; ask for work again.")
    if said.draw != id_of(open_round.draw):
        raise NotAccepted(f"The grade is of another draw than round {said.round}'s.")
    model = models.get(said.submission)
    if model is None:
        raise NotAccepted(f"The submission {said.submission[:16]}… is not in round {said.round}.")
    if model.account == said.grader:
        raise NotAccepted(f"{whose} is the author of {model.name!r}, and nobody grades a model of their own.")
    if said.grader in judged:
        raise NotAccepted(f"{whose} graded {model.name!r} in round {said.round} already; a grade is given once.")
    if isinstance(said, Grade) and said.root != model.root:
        raise NotAccepted(f"The grade is of the model {said.root[:16]}…; {model.name!r} is {model.root[:16]}….")
