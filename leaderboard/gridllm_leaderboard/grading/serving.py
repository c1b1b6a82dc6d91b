"""Whether nodes of the grid serve a model that could not be graded without them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gridllm.errors import GridError

if TYPE_CHECKING:
    from gridllm.charter.pin import Pins
    from gridllm_leaderboard.link import LeaderboardLink

log = logging.getLogger(__name__)


async def is_served(link: LeaderboardLink, pins: Pins, submission: str) -> bool:
    """Whether every block of a listed model has a node; False, too, where that is not known."""
    from gridllm.admission.gate import Gatekeeper
    from gridllm.charter.news import hear_news
    from gridllm.planning.succession import stands
    from gridllm.swarm.directory import Directory

    await hear_news(link.swarm, link.board, pins.peers(link.signed))
    listed = next((one.model for one in link.board.listings if one.submission == submission), None)
    if listed is None:
        return False
    gate = Gatekeeper(link.signed, link.board)
    try:
        records = await Directory(link.swarm, link.signed.grid, gate.admit).nodes(listed.model_root)
    except GridError as error:
        log.info("Who serves %r is not known: %s", listed.name, error)
        return False
    return stands(records, listed.blocks)
