"""Notices on their way out: on the home's own board, which its first peer reads, and to every peer that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.gossip import fetch_notices, push_notice
from gridllm.charter.pin import Pins
from gridllm.errors import GridError, SwarmError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
TIMEOUT_S: Final = 5.0  # for each peer to be reached, and to answer

Open = Callable[[], Awaitable[Swarm]]
Peers = list[tuple[PeerId, tuple[str, ...]]]


async def post(
    signed: SignedCharter,
    pins: Pins,
    make: Callable[[NoticeBoard], bytes | None],
    open_swarm: Open | None = None,
) -> int:
    """Learn what other maintainers said, let ``make`` say something, and tell everybody → how many peers took it.

    What is said is kept here first, so that it gets out through this home's first peer even if nobody answers now.

    Args:
        make: gets the board as it stands and returns a signed notice, or None when signatures are missing.

    Raises:
        NoticeError: the notice is not valid, or cannot be kept.
    """
    board = NoticeBoard(signed, pins.notices_path(signed))
    peers = pins.peers(signed)
    async with _entered(open_swarm or _throw_away) as swarm:
        if swarm is not None:
            peers = await _with_each(swarm, peers, lambda peer: fetch_notices(swarm, peer, board, timeout_s=TIMEOUT_S))
        raw = make(board)
        if raw is None:
            return 0
        board.add(raw)
        if swarm is None:
            return 0
        return len(await _with_each(swarm, peers, lambda peer: push_notice(swarm, peer, raw, timeout_s=TIMEOUT_S)))


async def _throw_away() -> Swarm:
    from gridllm.swarm.libp2p import open_swarm

    return await open_swarm(Identity.ephemeral(), client_only=True)


@asynccontextmanager
async def _entered(open_swarm: Open) -> AsyncIterator[Swarm | None]:
    try:
        swarm = await open_swarm()
    except SwarmError as error:
        log.warning("Nobody can be told now: %s", error)
        yield None
        return
    try:
        yield swarm
    finally:
        await swarm.close()


async def _with_each(swarm: Swarm, peers: Peers, deed: Callable[[PeerId], Awaitable[object]]) -> Peers:
    """Do it with all peers → those with which it worked."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def with_one(peer: PeerId, addresses: tuple[str, ...]) -> bool:
        async with turns:
            try:
                await swarm.connect(peer, addresses, timeout_s=TIMEOUT_S)
                await deed(peer)
            except GridError as error:
                log.debug("Peer %s was not told: %s", peer, error)
                return False
            return True

    worked = await asyncio.gather(*(with_one(peer, addresses) for peer, addresses in peers))
    return [one for one, well in zip(peers, worked, strict=True) if well]
