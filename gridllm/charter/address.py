"""Multiaddrs as people type them, checked so that a slip gets its own sentence before anything is dialled."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final

from gridllm.errors import AddressError, IdentityError
from gridllm.identity.keys import public_key_of
from gridllm.ids import PeerId

EXAMPLE: Final = "/ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…"
PLACE_EXAMPLE: Final = "/ip4/203.0.113.7/tcp/31337"
MAX_ADDRESS_CHARS: Final = 256
HOSTS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")


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


def check_places(host_maddrs: Iterable[str], announce_maddrs: Iterable[str]) -> None:
    """Check where a peer is to listen and what it is to tell others, before a daemon is started with it.

    What follows host and port (``/quic-v1``, ``/ws``) is left to the daemon.

    Raises:
        AddressError: one is no host with a port.
    """
    places = {"listen at": (host_maddrs, 0), "announce": (announce_maddrs, 1)}
    for what, (addresses, least_port) in places.items():
        for address in addresses:
            fault = _place_fault(address.strip(), least_port)
            if fault:
                raise AddressError(
                    f"The multiaddr {address[:MAX_ADDRESS_CHARS]!r} to {what} {fault}; one looks like {PLACE_EXAMPLE}."
                )


def _place_fault(address: str, least_port: int) -> str:
    """What is wrong with it; nothing where nothing is."""
    parts = address.split("/")
    if len(parts) < 5 or parts[0] or parts[1] not in HOSTS or parts[3] not in ("tcp", "udp"):
        return "names no host and port"
    _, host, name, _, port = parts[:5]
    check = _PARTS[host]
    try:
        if check is not None:
            check(name)
        if not (least_port == 0 and port == "0"):  # 0: the system chooses
            _port(port)
    except ValueError as error:
        return f"does not fit: {error}"
    return ""
