"""Whole listings of a leaderboard, page by page."""

from __future__ import annotations

from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import (
    ANNULLED_CALL,
    HISTORY_CALL,
    Annulled,
    AnnulledRound,
    AskAnnulled,
    AskHistory,
    History,
    Reign,
)


async def reigns(link: LeaderboardLink) -> list[Reign]:
    """All champions, oldest first. Raises SwarmError, Refusal."""
    found: list[Reign] = []
    while True:
        page = await link.ask(HISTORY_CALL, AskHistory(len(found)), History)
        found += page.reigns
        if not page.reigns or len(found) >= page.total:
            return found


async def annulled(link: LeaderboardLink) -> list[AnnulledRound]:
    """All rounds that are void, newest first. Raises SwarmError, Refusal."""
    found: list[AnnulledRound] = []
    while True:
        page = await link.ask(ANNULLED_CALL, AskAnnulled(len(found)), Annulled)
        found += page.rounds
        if not page.rounds or len(found) >= page.total:
            return found
