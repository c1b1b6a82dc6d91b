"""Whether others can dial a candidate: a second identity, unknown to it, calls at the addresses it gave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gridllm.admission.knock import NONCE_BYTES, knock_answer
from gridllm.admission.messages import KNOCK_CALL
from gridllm.charter.address import split_address
from gridllm.errors import AddressError, GridError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

DIAL_S: Final = 5.0  # for dialling and asking together
OPEN_S: Final = 15.0  # for the second identity to start
MAX_ADDRESSES: Final = 8
FRESH_S: Final = 300.0  # afterwards it is replaced: connections it has kept prove nothing about new ones


async def open_second() -> Swarm:
    """A throw-away identity that only dials, and never through a relay.

    Raises:
        SwarmError: the libp2p daemon did not start.
    """
    from gridllm.identity.keys import Identity
    from gridllm.swarm.libp2p import open_swarm

    return await open_swarm(Identity.ephemeral(), client_only=True, relay=False)


class DialBack:
    """The second identity: started when first needed, kept for a while, closed at the end."""

    def __init__(self, opening: Callable[[], Awaitable[Swarm]] = open_second) -> None:
        self._opening = opening
        self._swarm: Swarm | None = None
        self._since = 0.0
        self._users = 0
        self._lock = asyncio.Lock()

    async def reachable(self, peer: PeerId, addresses: Sequence[str]) -> bool:
        """Whether ``peer`` answers at one of ``addresses`` within ``DIAL_S``, with no relay between."""
        direct = direct_addresses(peer, addresses)
        if not direct:
            return False
        try:
            async with asyncio.timeout(OPEN_S):
                swarm = await self._second()
        except (GridError, TimeoutError) as error:
            log.warning("The dial-back did not start: %s", error)
            return False
        self._users += 1
        try:
            async with asyncio.timeout(DIAL_S):
                return await _answers(swarm, peer, direct)
        except (GridError, TimeoutError) as error:
            log.info("Dialling back %s failed: %s", peer, error)
            return False
        finally:
            self._users -= 1

    async def close(self) -> None:
        """End the second identity."""
        swarm, self._swarm = self._swarm, None
        if swarm is not None:
            await swarm.close()

    async def _second(self) -> Swarm:
        async with self._lock:
            if self._swarm is not None and not self._users and time.monotonic() > self._since + FRESH_S:
                await self.close()
            if self._swarm is not None and await _ended(self._swarm):
                await self.close()
            if self._swarm is None:
                self._swarm = await self._opening()
                self._since = time.monotonic()
            return self._swarm


async def _ended(swarm: Swarm) -> bool:
    """Whether the swarm's daemon died."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await swarm.failed()
            return True
    return False


async def _answers(swarm: Swarm, peer: PeerId, addresses: tuple[str, ...]) -> bool:
    await swarm.connect(peer, addresses, timeout_s=DIAL_S)
    nonce = secrets.token_bytes(NONCE_BYTES)
    if await swarm.call(peer, KNOCK_CALL, nonce, timeout_s=DIAL_S) != knock_answer(nonce):
        return False
    far_ends = await swarm.seen_at(peer)
    return bool(far_ends) and not any("p2p-circuit" in address for address in far_ends)


def direct_addresses(peer: PeerId, addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of a stranger's addresses that can be dialled, lead to ``peer`` itself, and through no relay."""
    found = []
    for text in addresses[:MAX_ADDRESSES]:
        with contextlib.suppress(AddressError):
            owner, address = split_address(text)
            if owner == peer and "/p2p-circuit" not in address:
                found.append(address)
    return tuple(dict.fromkeys(found))
