"""Multiaddrs: what can be dialled passes, each slip has its own sentence."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.charter.address import check_places, split_address
from gridllm.errors import AddressError
from gridllm.identity.keys import peer_of

PEER = peer_of(bytes([1]) * 32)  # the same in each process: it is part of tests' names
RELAY = peer_of(bytes([2]) * 32)


@pytest.mark.parametrize(
    "address",
    [
        f"/ip4/203.0.113.7/tcp/31337/p2p/{PEER}",
        f"/ip6/2001:db8::1/tcp/31337/p2p/{PEER}",
        f"/dns4/grid.example.org/tcp/1/p2p/{PEER}",
        f"/ip4/10.0.0.1/udp/4001/quic-v1/p2p/{PEER}",
        f"/ip4/203.0.113.7/tcp/31337/p2p/{RELAY}/p2p-circuit/p2p/{PEER}",
        f"/p2p/{RELAY}/p2p-circuit/p2p/{PEER}",
    ],
)
def test_sound(address: str) -> None:
    assert split_address(f"  {address}\n") == (PEER, address)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is not a multiaddr"),
        ("203.0.113.7:31337", "is not a multiaddr"),
        ("/" + "x" * 300, "is not a multiaddr"),
        (f"/ipv4/203.0.113.7/tcp/1/p2p/{PEER}", "unknown part 'ipv4'"),
        (f"/ip4/203.0.113/tcp/1/p2p/{PEER}", "'203.0.113' does not fit /ip4/"),
        (f"/ip4/203.0.113.7/tcp/99999/p2p/{PEER}", "'99999' does not fit /tcp/"),
        (f"/ip4/203.0.113.7/tcp/0/p2p/{PEER}", "'0' does not fit /tcp/"),
        (f"/ip4/203.0.113.7/tcp/1/p2p/{PEER[:-3]}", "does not fit /p2p/"),
        ("/ip4/203.0.113.7/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "does not fit /p2p/"),
        ("/ip4/203.0.113.7/tcp/1", "lacks the peer id"),
        ("/ip4/203.0.113.7/tcp/1/p2p", "does not fit /p2p/"),
        (f"/p2p/{PEER}", "says who, but not where"),
        (f"/dns4/a b/tcp/1/p2p/{PEER}", "does not fit /dns4/"),
    ],
)
def test_slips(address: str, says: str) -> None:
    with pytest.raises(AddressError, match=says):
        split_address(address)


@given(st.text(max_size=100) | st.lists(st.sampled_from(["ip4", "tcp", "p2p", "1", "", PEER])).map("/".join))
def test_only_ever_an_address_error(text: str) -> None:
    with suppress(AddressError):
        assert split_address("/" + text)[0] in text


@pytest.mark.parametrize("end", ["", "/quic-v1", "/ws", f"/p2p/{PEER}"])
@pytest.mark.parametrize("host", ["/ip4/0.0.0.0", "/ip6/::", "/dns4/localhost", "/dns/grid.example.org"])
def test_places_that_a_daemon_takes(host: str, end: str) -> None:
    check_places([f"{host}/tcp/0{end}", f"{host}/udp/0{end}"], [f"{host}/tcp/31337{end}"])


@pytest.mark.parametrize(
    "address", ["", "foo", "localhost:80", "/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/tcp/x"]
)
def test_places_that_are_none(address: str) -> None:
    for places in (([address], []), ([], [address])):
        with pytest.raises(AddressError, match="one looks like /ip4/203.0.113.7/tcp/31337.$"):
            check_places(*places)


def test_nobody_is_reached_at_port_0() -> None:
    with pytest.raises(AddressError, match="to announce does not fit: not a port"):
        check_places([], ["/ip4/1.2.3.4/tcp/0"])
