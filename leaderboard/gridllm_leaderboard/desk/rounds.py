"""When a round begins, and with whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gridllm.charter.contest import Rules
from gridllm_leaderboard.statements import MAX_ROUND, Lock
from gridllm_leaderboard.store.records import Entry


def to_lock(queued: Sequence[Entry], rules: Rules, since: int, now: int) -> tuple[str, ...]:
    """Submissions of the round that is to be locked now, sorted; none: it is not time yet.

    Args:
        queued: oldest first.
        since: when the queue was last empty, Unix time: the round waits for others from then on.
    """
    if not queued or (now - since < rules.round_s and len(queued) < MAX_ROUND):
        return ()
    return tuple(sorted(entry.id for entry in queued[:MAX_ROUND]))


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
