"""Where peers come from, and how much those of one address hold: peers' names cost nothing, addresses do."""

from __future__ import annotations

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from gridllm.errors import SwarmError
from gridllm.ids import PeerId

IPV6_PREFIX: Final = 56  # bits; what one household gets

SeenAt = Callable[[PeerId], Awaitable[tuple[str, ...]]]
"""``Swarm.seen_at``."""


async def nowhere(_: PeerId) -> tuple[str, ...]:
    """In place of ``Swarm.seen_at`` before there is a swarm."""
    return ()


class Crowd:
    """What the peers of each place hold at present, of something that each may hold several of."""

    def __init__(self, most_of_place: int) -> None:
        self._most_of_place = most_of_place
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    def fills(self, places: Iterable[str]) -> bool:
        """Whether those of one of these places hold all that they may."""
        return any(self._held[place] >= self._most_of_place for place in places)

    @contextlib.contextmanager
    def one(self, places: Iterable[str]) -> Iterator[None]:
        """Count one more, held by a peer of these places."""
        held = Counter(places)
        self._held += held
        try:
            yield
        finally:
            self._held -= held  # drops places that nobody is left at


async def whereabouts(seen_at: SeenAt, peer: PeerId) -> set[str]:
    """The places that a peer is connected from; none when the network does not say."""
    with contextlib.suppress(SwarmError):
        return places_of(await seen_at(peer))
    return set()


def places_of(addresses: Iterable[str]) -> set[str]:
    """What attempts are counted by, of a connection's far ends: the host, a household's IPv6 prefix, or the relay's.

    This machine itself is nobody else's address and is left out; a relay on it counts by its identity.
    """
    found = set()
    for address in addresses:
        parts = address.split("/")
        host = _host_of(parts)
        if "p2p-circuit" in parts and "p2p" in parts[:-1]:  # a relay's identity costs nothing: its host says more
            found.add(f"relay {host or parts[parts.index('p2p') + 1]}")
        elif host is not None:
            found.add(host)
    return found


def _host_of(parts: list[str]) -> str | None:
    """``["", "ip4", "203.0.113.7", …]`` → the host, or its IPv6 prefix; None for this machine, or no IP address."""
    try:
        ip = ipaddress.ip_address(parts[2] if len(parts) > 2 else "")
    except ValueError:
        return None  # connections end at IP addresses; anything else tells nothing
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
    return str(ip)
