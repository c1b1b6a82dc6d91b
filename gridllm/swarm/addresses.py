"""Multiaddrs between our text form and libp2p's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gridllm.errors import AddressError
from gridllm.ids import PeerId
from gridllm.swarm.hivemind_parts import Multiaddr


def parse_addresses(addresses: Iterable[str], peer: PeerId | None = None) -> list[Any]:
    """Multiaddrs of those that parse; a trailing ``/p2p/<peer>`` is cut off.

    Raises:
        AddressError: there were some, but none parses.
    """
    texts = [address.strip() for address in addresses]
    parsed, fault = [], ""
    for text in texts:
        bare = text.removesuffix(f"/p2p/{peer}") if peer else text
        try:
            parsed.append(Multiaddr(bare))
        except Exception as error:  # noqa: BLE001 - the parser raises many kinds, all meaning the same
            fault = f"{text[:200]!r} ({error})"
    if texts and not parsed:
        raise AddressError(
            f"Not a multiaddr: {fault}; one looks like /ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…, see `gridllm id`."
        )
    return parsed
