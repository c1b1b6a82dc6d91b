"""From log-likelihoods to points, and from points to a line of a grade. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import LEAST_LOGLIK, MOST_LOGLIK, ItemResult, Line, digest_of, results_root
from gridllm_leaderboard.statements import TaskGrade
from gridllm_leaderboard.tasks.taskfile import Kind

WORST_BITS_PER_BYTE: Final = 8.0  # of a text that the tokenizer does not give back: as if it were not compressed


def result_of(kind: Kind, item: Line, logliks: Sequence[float]) -> ItemResult:
    """One model on one item.

    Args:
        logliks: nats: of the text, or of each choice in its place.

    Raises:
        LeaderboardError: there is not one for each, or one is no log-likelihood.
    """
    wanted = 1 if kind == "text" else len(item["choices"])
    if len(logliks) != wanted or not all(LEAST_LOGLIK <= one <= MOST_LOGLIK for one in logliks):  # nor is NaN
        raise LeaderboardError(
            f"An item has the log-likelihoods {list(logliks)[:4]}; it needs {wanted} numbers, none above 0."
        )
    if kind == "text":
        size = len(item["text"].encode())
        bits_per_byte = -min(logliks[0], 0.0) / math.log(2) / size
        return ItemResult(digest_of(item), 2.0**-bits_per_byte, [float(logliks[0])], size)
    likeliest = max(range(wanted), key=lambda at: (logliks[at], -at))  # ties: the first
    return ItemResult(digest_of(item), float(likeliest == item["gold"]), [float(one) for one in logliks], 1)


def value_of(kind: Kind, results: Sequence[ItemResult]) -> float:
    """What the task's column shows: bits per byte over the whole text, or the share that is right."""
    if kind == "text":
        nats = math.fsum(-one.logliks[0] for one in results)
        return nats / math.log(2) / sum(one.size for one in results)
    return math.fsum(one.points for one in results) / len(results)


def grade_of(task: str, kind: Kind, items: str, results: Sequence[ItemResult]) -> TaskGrade:
    """The line of a grade; ``items``: Merkle root of the items, in the results' order."""
    count = len(results)
    mean = math.fsum(one.points for one in results) / count
    spread = math.fsum((one.points - mean) ** 2 for one in results)
    return TaskGrade(
        task=task,
        items=items,
        results=results_root(results),
        count=count,
        value=value_of(kind, results),
        points=mean,
        stderr=math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0,
    )


def lost_text(text: str) -> float:
    """Log-likelihood, in nats, of a text that the tokenizer does not give back."""
    return -WORST_BITS_PER_BYTE * math.log(2) * len(text.encode())
