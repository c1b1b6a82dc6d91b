"""The maintainers' crown against the verdict that it goes by. Pure."""

from __future__ import annotations

from gridllm.charter.contest import Crown
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.statements import Submission, Verdict, id_of


def verify_crown(crown: Crown | None, verdict: Verdict, said: Submission) -> str:
    """Check that no other model was crowned than the verdict says; what is to be told of it.

    Args:
        crown: the one that holds now; its signatures were checked when the board took it.
        verdict: on the round of ``said``.

    Raises:
        LeaderboardError: the crown names another model than its verdict, or this one by another root.
    """
    mine = id_of(said)
    if crown is None:
        return "nobody was crowned yet"
    if crown.submission == mine and crown.root != said.root:
        raise LeaderboardError(f"{said.name!r} was crowned as the model {crown.root[:16]}…; it is {said.root[:16]}….")
    if crown.verdict != id_of(verdict):
        return "it goes by another round's verdict"
    if crown.submission != verdict.champion:
        champion = "nobody" if verdict.champion is None else f"{verdict.champion[:16]}…"
        raise LeaderboardError(
            f"The submission {crown.submission[:16]}… was crowned by a verdict whose champion is {champion}."
        )
    return f"{said.name!r} wears it" if crown.submission == mine else "it went to the verdict's champion"
