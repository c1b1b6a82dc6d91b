"""Multiaddrs as libp2p's daemon reads them."""

from __future__ import annotations

import base58
import pytest

from gridllm.errors import AddressError
from gridllm.identity.keys import Identity
from gridllm.swarm.addresses import parse_addresses
from gridllm.swarm.hivemind_parts import Multiaddr
from gridllm.swarm.p2pd import is_loopback

PEER, RELAY = Identity.ephemeral().peer, Identity.ephemeral().peer
PLAIN = "/ip4/203.0.113.7/tcp/31337"


def test_the_peer_at_the_end_is_cut_off() -> None:
    expected = [bytes.fromhex("04cb007107067a69")]
    assert parse_addresses([PLAIN]) == expected
    assert parse_addresses([f" {PLAIN}/p2p/{PEER} "], PEER) == expected


def test_a_relays_id_is_written_as_the_plain_multihash() -> None:
    (raw,) = parse_addresses([f"{PLAIN}/p2p/{RELAY}/p2p-circuit/p2p/{PEER}"], PEER)
    assert raw == bytes.fromhex("04cb007107067a69") + b"\xa5\x03\x26" + base58.b58decode(RELAY) + b"\xa2\x02"
    assert str(Multiaddr(raw)) == f"{PLAIN}/p2p/{RELAY}/p2p-circuit"


def test_one_good_address_is_enough() -> None:
    assert len(parse_addresses(["nonsense", PLAIN, "/ip4/1.2.3.4.5/tcp/1"])) == 1
    assert parse_addresses([]) == []


@pytest.mark.parametrize(
    "text", ["", "nonsense", "/ip4/300.1.1.1/tcp/1", "/ip4/1.1.1.1/tcp/70000", f"{PLAIN}/p2p/QmX", "/p2p/"]
)
def test_what_does_not_parse_is_named(text: str) -> None:
    with pytest.raises(AddressError, match="Not a multiaddr"):
        parse_addresses([text])


@pytest.mark.parametrize(
    ("addresses", "local"),
    [
        (["/ip4/127.0.0.1/tcp/0"], True),
        (["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/2", "/dns4/localhost/tcp/3"], True),
        (["/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1"], False),
        (["/dns4/example.org/tcp/1"], False),
        ([], False),
    ],
)
def test_loopback(addresses: list[str], local: bool) -> None:
    assert is_loopback(addresses) is local
