"""Asking at once what the maintainers said, where waiting for gossip's turn would answer wrongly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.gossip import fetch_notices
from gridllm.errors import GridError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

ASKED: Final = 3  # peers
TIMEOUT_S: Final = 3.0  # for connecting to one, and for each page of its notices
STRAGGLERS_S: Final = 1.0  # once one has told all it knows, the others get this much longer: some may be gone for good
PAGES: Final = 4  # times as long for all that one tells: it may be a stranger, who tells slowly and without end


async def hear_news(
    swarm: Swarm, board: NoticeBoard, peers: Sequence[tuple[PeerId, tuple[str, ...]]], *, timeout_s: float = TIMEOUT_S
) -> bool:
    """Take over what the first few of ``peers`` know.

    False: none of them answered, and the board says what it did.
    """

    async def ask(peer: PeerId, addresses: tuple[str, ...]) -> bool:
        try:
            async with asyncio.timeout(PAGES * timeout_s):
                await swarm.connect(peer, addresses, timeout_s=timeout_s)
                await fetch_notices(swarm, peer, board, timeout_s=timeout_s)
        except (GridError, TimeoutError) as error:  # what came until then is on the board
            log.debug("Peer %s told no notices: %s", peer, error)
            return False
        return True

    others = [one for one in peers if one[0] != swarm.peer][:ASKED]
    waiting, heard = {asyncio.create_task(ask(*one)) for one in others}, False
    try:
        while waiting:
            patience_s = STRAGGLERS_S if heard else None
            done, waiting = await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            heard = True in [task.result() for task in done] or heard
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return heard
