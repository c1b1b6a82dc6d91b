"""Multiaddrs from text to the bytes that libp2p's daemon takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import base58

from gridllm.errors import AddressError, IdentityError
from gridllm.identity.keys import public_key_of
from gridllm.ids import PeerId
from gridllm.swarm.hivemind_parts import Multiaddr

P2P_CODE: Final = b"\xa5\x03"  # multicodec 421 as a varint


def parse_addresses(addresses: Iterable[str], peer: PeerId | None = None) -> list[bytes]:
    """Those addresses that parse, binary; a trailing ``/p2p/<peer>`` is cut off.

    Raises:
        AddressError: there were some, but none parses.
    """
    texts = [address.strip() for address in addresses]
    parsed, fault = [], ""
    for text in texts:
        bare = text.removesuffix(f"/p2p/{peer}") if peer else text
        try:
            parsed.append(_to_bytes(bare))
        except IdentityError as error:
            fault = f"{text[:200]!r}: {error}"
        except Exception as error:  # noqa: BLE001 - the parser raises many kinds, all meaning the same
            fault = f"{text[:200]!r}: {error}."
    if texts and not parsed:
        raise AddressError(
            f"Not a multiaddr: {fault} One looks like /ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…; see `gridllm id`."
        )
    return parsed


def _to_bytes(text: str) -> bytes:
    """Binary form; ``/p2p/<id>`` parts by hand, since hivemind writes them as CIDs, which the daemon refuses.

    Relayed addresses (``…/p2p/<relay>/p2p-circuit``) cannot be dialled otherwise.
    """
    head, *tails = text.split("/p2p/")
    parts = [Multiaddr(head).to_bytes()] if head else []
    for tail in tails:
        peer, slash, rest = tail.partition("/")
        public_key_of(peer)
        raw = base58.b58decode(peer)
        parts += [P2P_CODE, bytes([len(raw)]), raw]
        if slash:
            parts.append(Multiaddr(f"/{rest}").to_bytes())
    if not parts:
        raise ValueError("it is empty")
    return b"".join(parts)
