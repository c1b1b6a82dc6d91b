"""Multiaddrs as people type them, checked so that a slip gets its own sentence before anything is dialled."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from gridllm.errors import AddressError, IdentityError
from gridllm.identity.keys import public_key_of
from gridllm.ids import PeerId

EXAMPLE: Final = "/ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…"
MAX_ADDRESS_CHARS: Final = 256


def _port(text: str) -> None:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise ValueError("not a port (1 to 65535)")


def _host(text: str) -> None:
    if not text or len(text) > 253 or not all(char.isalnum() or char in "-_." for char in text):
        raise ValueError("not a host name")


def _peer(text: str) -> None:
    try:
        public_key_of(text)
    except IdentityError as error:
        raise ValueError("not a peer id (12D3Koo… and 52 characters)") from error


# Protocol → how its value is checked; None: it has no value.
_PARTS: Final[dict[str, Callable[[str], object] | None]] = {
    "ip4": ipaddress.IPv4Address,
    "ip6": ipaddress.IPv6Address,
    "dns": _host,
    "dns4": _host,
    "dns6": _host,
    "tcp": _port,
    "udp": _port,
    "quic": None,
    "quic-v1": None,
    "p2p-circuit": None,
    "p2p": _peer,
}


def split_address(text: str) -> tuple[PeerId, str]:
    """The peer that a full multiaddr leads to (its last ``/p2p/``), and the address itself without blanks around it.

    Raises:
        AddressError: not a multiaddr, a part that does not fit, or no peer id at its end.
    """
    address = text.strip()
    if not address.startswith("/") or len(address) > MAX_ADDRESS_CHARS:
        raise AddressError(f"{address[:MAX_ADDRESS_CHARS]!r} is not a multiaddr; one looks like {EXAMPLE}.")
    words = iter(address[1:].split("/"))
    last = value = ""
    for last in words:
        if last not in _PARTS:
            raise AddressError(f"The multiaddr {address!r} has an unknown part {last!r}; one looks like {EXAMPLE}.")
        check = _PARTS[last]
        if check is None:
            continue
        value = next(words, "")
        try:
            check(value)
        except ValueError as error:
            raise AddressError(f"In the multiaddr {address!r}, {value!r} does not fit /{last}/: {error}.") from error
    if last != "p2p":
        raise AddressError(
            f"The multiaddr {address!r} lacks the peer id at its end, which proves who answers; one looks like "
            f"{EXAMPLE}."
        )
    if address.startswith("/p2p/") and "/p2p-circuit/" not in address:
        raise AddressError(f"The multiaddr {address!r} says who, but not where; one looks like {EXAMPLE}.")
    return PeerId(value), address
