"""Where the first peer listens, and what it tells others: both are written into files when a grid is founded."""

from __future__ import annotations

import socket
from typing import Final

from pydantic import BaseModel, ConfigDict

from gridllm.charter.address import split_address
from gridllm.errors import AddressError, UsageError
from gridllm.ids import PeerId

DEFAULT_HOST_MADDRS: Final = ("/ip4/0.0.0.0/tcp/31337",)
_EVERYWHERE: Final = {"ip4": "0.0.0.0", "ip6": "::"}  # noqa: S104  # recognised, not bound
# Addresses reserved for documentation: routed nowhere, and nothing is sent to them.
_OUTSIDE: Final = {"ip4": (socket.AF_INET, "192.0.2.1"), "ip6": (socket.AF_INET6, "2001:db8::1")}


class Listening(BaseModel):
    """``listen.json``: how the first peer starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host_maddrs: list[str]  # what it binds to
    announce_maddrs: list[str]  # what it tells others; empty: what libp2p finds by itself


def first_peer_addresses(peer: PeerId, host_maddrs: list[str], announce_maddrs: list[str]) -> list[str]:
    """Full multiaddrs for the charter: what is announced, or else each host address with this machine's own IP.

    Raises:
        UsageError: an address does not parse, or has no fixed port, so that it would be another after a restart.
    """
    addresses = []
    for maddr in announce_maddrs or [_concrete(one) for one in host_maddrs]:
        full = maddr if "/p2p/" in maddr else f"{maddr.rstrip('/')}/p2p/{peer}"
        try:
            owner, full = split_address(full)
        except AddressError as error:
            raise UsageError(
                f"{error} Give --host-maddrs and --announce-maddrs like /ip4/203.0.113.7/tcp/31337."
            ) from error
        if owner != peer:
            raise UsageError(f"The address {maddr!r} names another peer than this grid's first one, {peer}.")
        addresses.append(full)
    return addresses


def _concrete(maddr: str) -> str:
    """``/ip4/0.0.0.0/…`` with the address of this machine's default route in place of the wildcard."""
    parts = maddr.split("/")
    if len(parts) < 3 or parts[2] != _EVERYWHERE.get(parts[1]):
        return maddr
    family, outside = _OUTSIDE[parts[1]]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))  # UDP: chooses a route, sends nothing
            parts[2] = probe.getsockname()[0]
        except OSError:
            parts[2] = "127.0.0.1" if parts[1] == "ip4" else "::1"
    return "/".join(parts)
