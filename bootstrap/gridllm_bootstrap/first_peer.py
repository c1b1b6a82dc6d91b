"""The first peer of a grid while it runs: entry to the DHT, relay, and source of charter and manifests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import SignedCharter
from gridllm.charter.fetch import serve_charter
from gridllm.charter.pin import Pins
from gridllm.errors import GridError
from gridllm.ids import ModelRoot, PeerId

if TYPE_CHECKING:
    from gridllm.admission.gate import Gatekeeper
    from gridllm.identity.keys import Identity
    from gridllm.swarm.interface import Swarm
    from gridllm.wire.record import NodeRecord
    from gridllm_bootstrap.listen import Listening

LOOK_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Census:
    """Who is in the grid at one moment."""

    states: Mapping[str, int]  # joining, serving, draining → nodes
    covered: int  # blocks with at least one serving node, all models together
    blocks: int  # blocks of all models together

    def sentence(self) -> str:
        """For the status line."""
        nodes = ", ".join(f"{count} {state}" for state, count in self.states.items() if count) or "no nodes yet"
        return f"{nodes} · {self.covered} of {self.blocks} blocks served"


@asynccontextmanager
async def open_first_peer(
    identity: Identity, signed: SignedCharter, pins: Pins, listening: Listening, manifests: Mapping[ModelRoot, bytes]
) -> AsyncIterator[Swarm]:
    """Join the grid as its first peer: through peers known from before a restart, or alone when there are none.

    Args:
        manifests: handed out by their roots; may grow.

    Raises:
        SwarmError: an address to listen on is taken, or the libp2p daemon does not start.
    """
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(
        identity,
        initial_peers=[one for one in pins.initial_peers(signed) if not one.endswith(f"/p2p/{identity.peer}")],
        host_maddrs=listening.host_maddrs,
        announce_maddrs=listening.announce_maddrs,
        relay=True,
        namespace=signed.grid,
    )
    try:
        await serve_charter(swarm, signed.raw, manifests)
        yield swarm
    finally:
        await swarm.close()


async def watch(swarm: Swarm, signed: SignedCharter, pins: Pins, gate: Gatekeeper) -> AsyncIterator[Census]:
    """Look every ``LOOK_EVERY_S`` at the nodes that ``gate`` admits, and remember them for the next start."""
    from gridllm.swarm.directory import Directory

    directory, catalogue = Directory(swarm, signed.grid, gate.admit), Catalogue(signed, gate.board)
    remembered: set[PeerId] = set()
    while True:
        found: list[tuple[int, list[NodeRecord]]] = []
        for entry in catalogue.entries:
            try:
                found.append((entry.blocks, await directory.nodes(entry.model_root)))
            except GridError:  # the DHT did not answer this time; the next look may
                found.append((entry.blocks, []))
        records = [record for _, nodes in found for record in nodes]
        fresh = {record.peer: record.addresses for record in records if record.peer not in remembered}
        if fresh:
            pins.remember_peers(signed, fresh)
            remembered |= fresh.keys()
        yield census(found)
        await asyncio.sleep(LOOK_EVERY_S)


def census(found: list[tuple[int, list[NodeRecord]]]) -> Census:
    """(blocks of a model, its nodes) for each model → the sums. Pure."""
    states = {"serving": 0, "joining": 0, "draining": 0}
    covered = 0
    for blocks, nodes in found:
        for record in nodes:
            states[record.state] += 1
        serving = [record for record in nodes if record.state == "serving"]
        covered += sum(any(record.start <= block < record.end for record in serving) for block in range(blocks))
    return Census(states, covered, sum(blocks for blocks, _ in found))
