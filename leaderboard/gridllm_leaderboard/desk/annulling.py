"""The end of a round that comes to no verdict: when, why, and what is signed and written then.

Two may end one: the desk, once the rules' patience is over, and its maintainer's command, in a process of its own. What
was read in a transaction holds until it has written (``store.engine``), so they need not know of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gridllm.charter.contest import Rules
from gridllm.errors import LeaderboardError
from gridllm.identity.keys import Identity
from gridllm.quantities import count_things, spell_duration
from gridllm_leaderboard.statements import Annulment, Lock, id_of, sign

if TYPE_CHECKING:
    from gridllm_leaderboard.records import Round
    from gridllm_leaderboard.store.batch import Batch


MAX_REASON: Final = 500  # characters


def is_overdue(lock: Lock, rules: Rules, now: int) -> bool:
    """Whether the patience of the rules that it was locked under is over. Pure; Unix time."""
    return now >= lock.issued + rules.patience_s


def why_overdue(round_: Round, rules: Rules, judged: Mapping[str, int]) -> str:
    """What did not come in time, for people. Pure.

    Args:
        judged: how many graders graded each model, or could not run it.
    """
    waited = f"within {spell_duration(rules.patience_s)} of its lock"
    if round_.draw is None:
        return f"the keeper {round_.lock.keeper[:16]}… signed no head that its items could follow from {waited}"
    lacking = sum(judged.get(one, 0) < rules.quorum for one in round_.graded)
    what = f"of {count_things(len(round_.graded), 'model')}"
    if not lacking:
        return f"graders did not come to agree on all {what} {waited}"
    return f"{lacking:,} {what} had too few grades {waited}"


def annulment_of(lock: Lock, reason: str, now: int) -> Annulment:
    """The document; no earlier than the lock, which may be dated by a keeper's clock. Pure.

    Raises:
        ValueError: no reason, or one of more than 500 characters.
    """
    return Annulment(grid=lock.grid, round=lock.round, lock=id_of(lock), reason=reason, issued=max(now, lock.issued))


def annul(batch: Batch, number: int, reason: str, identity: Identity, now: int) -> Round:
    """End that round without a verdict; the round as it was.

    Args:
        identity: of the leaderboard by the rules that hold now; a lost key may have locked the round.

    Raises:
        LeaderboardError: there is no such round, or it has come to its end.
    """
    found = batch.round(number)
    if found is None:
        raise LeaderboardError(f"There is no round {number}; the last is {batch.last_round()}.")
    if found.annulment is not None:
        raise LeaderboardError(f"Round {number} is annulled already: {found.annulment.reason}")
    batch.annul(number, sign(annulment_of(found.lock, reason, now), identity))
    return found
