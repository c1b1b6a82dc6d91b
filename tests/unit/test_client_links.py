"""A client's links: those that nobody uses are closed, whatever becomes of the one that is opened in their place."""

from __future__ import annotations

import pytest

from gridllm.errors import SwarmError
from gridllm.identity.keys import Identity
from gridllm.swarm.interface import Stream
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_client import links
from gridllm_client.links import LinkPool
from tests.unit.notes import until


async def node(network: MemoryNetwork, taken: list[Link]) -> MemorySwarm:
    """It takes links, and keeps those that last in ``taken``."""

    async def take(stream: Stream) -> None:
        link = Link(stream, on_message=lambda *_: None, opener=False)
        taken.append(link)
        try:
            await link.run()
        except SwarmError:
            taken.remove(link)

    swarm = network.join(Identity.ephemeral())
    await swarm.serve_streams(LINK_STREAM, take)
    return swarm


async def test_idle_links_are_closed_though_the_next_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    network, taken = MemoryNetwork(), list[Link]()
    idle, gone = await node(network, taken), await node(network, [])
    pool = LinkPool(network.join(Identity.ephemeral()))
    link = await pool.get(idle.peer, idle.addresses)
    await until(lambda: len(taken) == 1)
    monkeypatch.setattr(links, "IDLE_S", -1.0)
    network.kill(gone.peer)
    with pytest.raises(SwarmError):
        await pool.get(gone.peer, gone.addresses)
    await until(lambda: not taken)
    assert link.lost is not None and pool.known(idle.peer) is None
    await pool.close()
