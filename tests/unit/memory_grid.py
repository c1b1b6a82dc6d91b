"""Real nodes and a real client in one process, joined by the in-memory network: for exactness over many families."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from gridllm.engine.attention import RAGGED, register
from gridllm.engine.runner import Engine
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.ends import Ends
from gridllm.models.span import load_span
from gridllm.node.service.service import NodeService
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.record import NodeRecord
from gridllm_client.links import LinkPool
from gridllm_client.routes import Routes
from gridllm_client.session import Session
from gridllm_client.terms import OnEvent, Patience, Terms

ROOT = ModelRoot("ab" * 32)


@dataclass(frozen=True)
class MemoryNode:
    """One serving node."""

    swarm: MemorySwarm
    engine: Engine
    service: NodeService
    record: NodeRecord


class MemoryGrid:
    """Nodes on an in-memory network, and the client's view of them."""

    def __init__(self, network: MemoryNetwork, folder: Path, blocks: int, stack: AsyncExitStack) -> None:
        self.network = network
        self.folder = folder
        self.blocks = blocks
        self.listed: list[MemoryNode] = []
        self.ends = Ends.load(folder, None, torch.float32)
        self.swarm = network.join(Identity.ephemeral())
        self.pool = LinkPool(self.swarm)
        self._stack = stack

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        """The directory."""
        return [node.record for node in self.listed]

    def announced_at(self, peer: PeerId) -> float:
        """These nodes announce themselves once and for all."""
        return 0.0

    def shut_out(self, model: ModelRoot) -> list[NodeRecord]:
        """All that are listed are admitted."""
        return []

    async def add(
        self, start: int, end: int, *, cache_tokens: int = 8192, identity: Identity | None = None, **announced: Any
    ) -> MemoryNode:
        """Start a node on blocks [start, end); ``announced`` are other values for its record."""
        swarm = self.network.join(identity or Identity.ephemeral())
        engine = Engine(load_span(self.folder, None, start, end, attn=RAGGED), cache_tokens=cache_tokens)
        engine.start()
        service = self.service(swarm, engine)
        await service.start()
        fields: dict[str, Any] = {
            "peer": swarm.peer,
            "version": "0",
            "model": ROOT,
            "start": start,
            "end": end,
            "state": "serving",
            "dtype": "float32",
            "blocks_per_s": 100.0,
            "free_tokens": cache_tokens,
            "total_tokens": cache_tokens,
            "next_hop_ms": {},
            "addresses": list(swarm.addresses),
            "since": time.time(),
        }
        record = NodeRecord(**(fields | announced))
        node = MemoryNode(swarm, engine, service, record)
        self.listed.append(node)
        self._stack.push_async_callback(_stop, node)
        return node

    def service(self, swarm: MemorySwarm, engine: Engine) -> NodeService:
        """What a node runs."""
        return NodeService(swarm, engine, ROOT)

    def routes(self) -> Routes:
        """A client's view of the nodes."""
        return Routes(self, self.pool, ROOT, "float32")

    def session(self, *, rows: int = 1, on_event: OnEvent | None = None, patience: Patience | None = None) -> Session:
        """A session over all blocks."""
        terms = Terms(model=ROOT, blocks=self.blocks, hidden_size=self.ends.hidden_size, dtype=torch.float32, rows=rows)
        return Session(self.pool, self.routes(), terms, on_event=on_event, patience=patience)


G = TypeVar("G", bound=MemoryGrid)


def memory_grid(folder: Path, blocks: int, cuts: Sequence[int]) -> AbstractAsyncContextManager[MemoryGrid]:
    """A grid whose nodes serve the blocks between ``cuts`` (0 and ``blocks`` included)."""
    return grid_of(MemoryGrid, folder, blocks, cuts)


@asynccontextmanager
async def grid_of(kind: type[G], folder: Path, blocks: int, cuts: Sequence[int]) -> AsyncIterator[G]:
    """The same, of another kind."""
    register()
    async with AsyncExitStack() as stack:
        grid = kind(MemoryNetwork(), folder, blocks, stack)
        stack.push_async_callback(grid.swarm.close)
        for start, end in itertools.pairwise(cuts):
            await grid.add(start, end)
        stack.push_async_callback(grid.pool.close)
        yield grid


async def _stop(node: MemoryNode) -> None:
    await asyncio.wait_for(node.service.stop(), 60)
    await node.engine.stop()
    await node.swarm.close()
