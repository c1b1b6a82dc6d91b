"""The in-memory grid, closed: whoever serves needs a certificate, and hears of revocations."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.engine.runner import Engine
from gridllm.errors import CertificateError
from gridllm.ids import PeerId
from gridllm.node.service.service import NodeService
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_client.routes import Routes
from tests.certificates import certified, closed_grid
from tests.unit.memory_grid import ROOT, MemoryGrid, MemoryNode


class ClosedGrid(MemoryGrid):
    """Every member has a board and a gate of its own, and all of them the same clock."""

    def __init__(self, network: MemoryNetwork, folder: Path, blocks: int, stack: AsyncExitStack) -> None:
        super().__init__(network, folder, blocks, stack)
        self.signed = closed_grid()
        self.ahead_s = 0.0  # of the real clock
        self.gates: dict[PeerId, Gatekeeper] = {}
        self.shown: dict[PeerId, bytes] = {}  # certificates in records
        self.gate = self._gate()
        self.gate.board.listen(self.pool.notices_changed)
        self.directory = Directory(self.swarm, self.signed.grid, self.gate.admit)

    def clock(self) -> float:
        """Unix time, seconds."""
        return time.time() + self.ahead_s

    async def add(self, start: int, end: int, *, cache_tokens: int = 8192, **announced: Any) -> MemoryNode:
        """A node that was admitted."""
        node = await super().add(start, end, cache_tokens=cache_tokens, **announced)
        await self.announce(node, certified(self.signed, node.swarm.peer))
        return node

    async def add_outsider(self, start: int, end: int, raw: bytes = b"", **announced: Any) -> MemoryNode:
        """A node that answers whoever calls, works with everybody, and shows ``raw``."""
        node = await super().add(start, end, certificate=raw, **announced)
        del self.gates[node.swarm.peer]
        node.service._gate = node.service._door._gate = None
        await self.announce(node, raw)
        return node

    async def announce(self, node: MemoryNode, raw: bytes) -> None:
        """Publish the node's record with this certificate."""
        self.shown[node.swarm.peer] = raw
        fields = {name: getattr(node.record, name) for name in node.record.__struct_fields__}
        record = type(node.record)(**(fields | {"certificate": raw}))
        await Directory(node.swarm, self.signed.grid).publish(record, ttl_s=600)

    def service(self, swarm: MemorySwarm, engine: Engine) -> NodeService:
        """What an honest node runs."""
        gate = self.gates[swarm.peer] = self._gate()

        def own_fault() -> CertificateError | None:
            try:
                gate.check(self.shown.get(swarm.peer, b""), swarm.peer, model=ROOT, dtype="float32")
            except CertificateError as error:
                return error
            return None

        return NodeService(swarm, engine, ROOT, gate, own_fault)

    def routes(self) -> Routes:
        """A client that reads the directory through its gate."""
        return Routes(self.directory, self.pool, ROOT, "float32", gate=self.gate, wall_clock=self.clock)

    def tell_client(self, notice: bytes) -> None:
        """The client hears of a notice."""
        self.gate.board.add(notice)

    def tell_nodes(self, notice: bytes) -> None:
        """All nodes do."""
        for gate in self.gates.values():
            gate.board.add(notice)

    def by_peer(self, peer: PeerId) -> MemoryNode:
        """The node of that id."""
        return next(node for node in self.listed if node.swarm.peer == peer)

    def _gate(self) -> Gatekeeper:
        return Gatekeeper(self.signed, NoticeBoard(self.signed), clock=self.clock)
