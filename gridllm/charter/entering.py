"""The way into a pinned grid's swarm: as a member that others reach, or as somebody who only asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gridllm.identity.keys import Identity

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.swarm.interface import Swarm


async def enter(
    identity: Identity,
    signed: SignedCharter,
    pins: Pins,
    host_maddrs: Sequence[str],
    announce_maddrs: Sequence[str],
    *,
    relay: bool = True,
) -> Swarm:
    """Enter as a member; arguments as of ``gridllm.swarm.libp2p.open_swarm``.

    Raises:
        SwarmError: an address to listen on is taken, or the libp2p daemon does not start.
    """
    from gridllm.swarm.libp2p import open_swarm

    return await open_swarm(
        identity,
        initial_peers=pins.initial_peers(signed),
        host_maddrs=host_maddrs,
        announce_maddrs=announce_maddrs,
        relay=relay,
        namespace=signed.grid,
    )


@asynccontextmanager
async def visiting(signed: SignedCharter, pins: Pins, identity: Identity | None = None) -> AsyncIterator[Swarm]:
    """The grid's swarm for as long as the block lasts.

    Args:
        identity: whose peer this is; None: a fresh one, which is right for whoever need not be known.

    Raises:
        SwarmError: no peer of the grid answers.
    """
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(
        identity or Identity.ephemeral(),
        initial_peers=pins.initial_peers(signed),
        client_only=True,
        namespace=signed.grid,
    )
    try:
        yield swarm
    finally:
        await swarm.close()
