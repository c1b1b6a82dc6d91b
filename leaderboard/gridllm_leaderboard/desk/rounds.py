"""When a round begins, and with whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gridllm.charter.contest import Rules
from gridllm.identity.statement import MAX_STATEMENT_BYTES
from gridllm_leaderboard.records import Entry
from gridllm_leaderboard.statements import MAX_ROUND, Lock

VERDICT_BYTES: Final = (
    MAX_STATEMENT_BYTES * 3 // 4 - 1152
)  # of JSON: an envelope holds it in base64, beside a signature
GRADE_BYTES: Final = 67  # of one grade's id in a verdict
MODEL_BYTES: Final = 200  # of one model's comparison, or that it failed


def most_in(rules: Rules) -> int:
    """Submissions in one round: as many as a verdict can name with the grades of all graders, the champion's, too."""
    return max(1, min(MAX_ROUND, VERDICT_BYTES // (GRADE_BYTES * len(rules.graders) + MODEL_BYTES) - 1))


def to_lock(queued: Sequence[Entry], rules: Rules, since: int, now: int) -> tuple[str, ...]:
    """Submissions of the round that is to be locked now, sorted; none: it is not time yet.

    Args:
        queued: oldest first.
        since: when the queue was last empty, Unix time: the round waits for others from then on.
    """
    most = most_in(rules)
    if not queued or (now - since < rules.round_s and len(queued) < most):
        return ()
    return tuple(sorted(entry.id for entry in queued[:most]))


def lock_of(
    grid: str,
    number: int,
    rules_id: str,
    submissions: tuple[str, ...],
    champion: str | None,
    beacon: Beacon,
    now: int,
) -> Lock:
    """The document. It is later than every head known: one that was known before must not decide."""
    keeper, size, issued = beacon
    return Lock(
        grid=grid,
        round=number,
        rules=rules_id,
        submissions=submissions,
        champion=champion,
        keeper=keeper,
        size=size,
        issued=max(now, issued),
    )


Beacon = tuple[str, int, int]
"""A keeper's newest head: whose, entries, and when it was signed."""
