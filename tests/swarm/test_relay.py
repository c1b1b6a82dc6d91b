"""A node that nobody can dial is reached through relays.

Whether a relay carries more than 128 KB per connection is p2pd's coin toss (decision 0006), so no more is sent here.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from test_libp2p import Opener, dead_address, swarms

from gridllm.errors import PeerLost
from gridllm.swarm import libp2p
from gridllm.swarm.hivemind_parts import P2P
from gridllm.swarm.interface import Stream

__all__ = ["swarms"]

RELAYS = 4  # libp2p waits three minutes for more when it knows fewer


async def test_a_node_behind_a_firewall_is_reached_through_a_relay(
    swarms: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p, "MAINTENANCE_S", 0.2)
    relays = []
    for _ in range(RELAYS):
        port = dead_address().split("/")[4]
        relays.append(
            await swarms(
                host_maddrs=(f"/ip4/127.0.0.1/tcp/{port}",),
                announce_maddrs=(f"/dns4/localhost/tcp/{port}",),  # loopback IPs are never announced as relays
            )
        )
    with monkeypatch.context() as firewall:
        _listen_nowhere(firewall, [relay.addresses[0] for relay in relays])
        node = await swarms(*relays)

    async def echo(stream: Stream) -> None:
        with contextlib.suppress(PeerLost):
            while True:
                await stream.write(*await stream.read())

    await node.serve_streams("echo", echo)
    async with asyncio.timeout(60):
        while not node.addresses:  # noqa: ASYNC110 - p2pd decides when
            await asyncio.sleep(0.1)
    assert all("/p2p-circuit/" in address for address in node.addresses)
    client = await swarms(client_only=True)
    await client.connect(node.peer, node.addresses)
    stream = await client.open_stream(node.peer, "echo")
    async with asyncio.timeout(60):
        for size in (1000, 16_000, 32_000):
            await stream.write(b"header", bytes(size))
            assert len((await stream.read()).body) == size


def _listen_nowhere(monkeypatch: pytest.MonkeyPatch, relays: list[str]) -> None:
    """Start the next daemons as behind a firewall that lets nothing in."""
    create: Any = P2P.create.__func__

    async def behind_firewall(cls: type[P2P], **options: Any) -> P2P:
        private = {"no_listen": True, "host_maddrs": None, "force_reachability": "private"}
        return await create(cls, **options | private | {"use_auto_relay": True, "trusted_relays": relays})

    monkeypatch.setattr(P2P, "create", classmethod(behind_firewall))
