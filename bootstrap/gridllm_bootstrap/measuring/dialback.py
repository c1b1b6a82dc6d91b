"""Whether others can dial a candidate: a second identity, unknown to it, calls at the addresses it gave."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
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

    async def reachable(self, peer: PeerId, addresses: Sequence[str], seen_at: Sequence[str]) -> bool:
        """Whether ``peer`` answers at one of ``addresses`` within ``DIAL_S``, with no relay between.

        Args:
            seen_at: the far ends of its connections with us.
        """
        resolved = await asyncio.gather(*map(_resolved, direct_addresses(peer, addresses)))
        direct = not_nearer([address for address in resolved if address is not None], seen_at)
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


def not_nearer(addresses: Sequence[str], seen_at: Sequence[str]) -> tuple[str, ...]:
    """Those that are no nearer to us than the candidate itself.

    Addresses of this machine, and of private networks, are for those who come from there: strangers may not have our
    neighbours' ports tried.
    """
    come_from = [near for one in seen_at if "/p2p-circuit" not in one and (near := _nearness(one)) is not None]
    nearest = max(come_from, default=0)
    return tuple(one for one in addresses if (near := _nearness(one)) is not None and near <= nearest)


def _nearness(address: str) -> int | None:
    """2: on this machine; 1: in a private network, or otherwise not of the internet; 0: anywhere; None: unknown."""
    try:
        host = ipaddress.ip_address(address.split("/")[2])
    except (ValueError, IndexError):
        return None
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    if host.is_loopback or host.is_unspecified:
        return 2
    return 0 if host.is_global else 1


async def _resolved(address: str) -> str | None:
    """With an IP address in place of a name, so that what is looked at is what is dialled; None when it has none."""
    _, protocol, host, *rest = address.split("/")
    if not protocol.startswith("dns"):
        return address
    family = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}.get(protocol, socket.AF_UNSPEC)
    try:
        async with asyncio.timeout(DIAL_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    ip = str(found[0][4][0]).partition("%")[0]
    return "/".join(["", "ip6" if ":" in ip else "ip4", ip, *rest])


def direct_addresses(peer: PeerId, addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of a stranger's addresses that can be dialled, lead to ``peer`` itself, and through no relay."""
    found = []
    for text in addresses[:MAX_ADDRESSES]:
        with contextlib.suppress(AddressError):
            owner, address = split_address(text)
            if owner == peer and "/p2p-circuit" not in address:
                found.append(address)
    return tuple(dict.fromkeys(found))
