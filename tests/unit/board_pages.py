"""Pages of the leaderboard, made up."""

from __future__ import annotations

from typing import Any

from gridllm.identity.keys import Identity
from gridllm_leaderboard.messages import Interval, Rank, RankRow, Reign, SubmissionView
from tests.unit.graded_rounds import named

DAY = 1_790_000_000
BOARD = Identity.ephemeral().public_key.hex()


def row(name: str, place: int, score: float, **changes: Any) -> RankRow:
    """A row of the ranking."""
    base: dict[str, Any] = {
        "place": place,
        "submission": named(name),
        "name": name,
        "account": named(f"author of {name}"),
        "root": named(f"root of {name}"),
        "parameters": 8_400_000,
        "license": "MIT",
        "score": Interval(score, score - 1.5, score + 1.5),
        "tasks": {"stories": Interval(1.2345678, 1.2, 1.3), "sums": Interval(0.625, 0.5, 0.75)},
        "cost": 8_400_000,
        "issued": DAY,
        "round": 3,
        "state": "graded",
        "champion": False,
        "serve": True,
    }
    return RankRow(**(base | changes))


def rank(*rows: RankRow, total: int | None = None) -> Rank:
    """A page of the ranking."""
    return Rank(len(rows) if total is None else total, {"stories": "text", "sums": "choice"}, list(rows))


def view(name: str, state: str, **changes: Any) -> SubmissionView:
    """A submission."""
    base: dict[str, Any] = {
        "id": named(name),
        "account": named(f"author of {name}"),
        "root": named(f"root of {name}"),
        "name": name,
        "message": "more data",
        "license": "MIT",
        "base": None,
        "serve": True,
        "parameters": 8_400_000,
        "size": 33_600_000,
        "issued": DAY,
        "state": state,
        "why": "",
        "fee": 0,
        "pay_to": BOARD,
        "round": 3,
        "champion": False,
    }
    return SubmissionView(**(base | changes))


def reign(name: str, days: int, score: float, lead: float | None = None) -> Reign:
    """A champion since so many days after the first."""
    return Reign(
        submission=named(name),
        name=name,
        account=named(f"author of {name}"),
        root=named(f"root of {name}"),
        since=DAY + 86400 * days,
        round=1 + days,
        score=Interval(score, score - 1.0, score + 1.0),
        lead=None if lead is None else Interval(lead, lead / 2, lead * 1.5),
        bounty=5_000_000,
    )
