"""This node as the grid sees it: the record it announces, and the round trips to nodes that continue the chain."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gridllm import __version__
from gridllm.engine.runner import Engine
from gridllm.errors import GridError
from gridllm.ids import ModelRoot, PeerId
from gridllm.node.service.switchboard import PING_CALL
from gridllm.planning.placement import BlockRange
from gridllm.swarm.directory import Announcer, Directory
from gridllm.swarm.helpers import Addresses, Helpers
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord, State

log = logging.getLogger(__name__)

PING_TIMEOUT_S: Final = 2.0
MAX_NEXT_HOPS: Final = 32
PINGS_AT_ONCE: Final = 8
MAX_ADDRESSES: Final = 16
MAX_ADDRESS_CHARS: Final = 256


class Presence:
    """Announces this node; whoever changes a field calls ``announce``."""

    def __init__(
        self,
        swarm: Swarm,
        directory: Directory,
        helpers: Helpers,
        model: ModelRoot,
        dtype: str,
        beside: Callable[[], Awaitable[Mapping[PeerId, tuple[str, ...]]]] | None = None,
    ) -> None:
        """``beside``: who hands out the weights besides seeds and nodes (``admission.cards.leaderboard_sources``)."""
        self.state: State = "joining"
        self.span: BlockRange = (0, 0)
        self.blocks_per_s = 0.0
        self.engine: Engine | None = None
        self.silent_tokens: Callable[[], int] = lambda: 0  # KV cache of sessions that give way to any other
        self.since = time.time()  # of joining, then of serving
        self.certificate = b""  # admission certificate; shown to whoever reads the record
        self.returning = False  # leaves this swarm only to enter it again: the record stays
        self._next_hop_ms: dict[str, float] = {}
        self.swarm = swarm
        self.helpers = helpers
        self._directory = directory
        self._model = model
        self._dtype = dtype
        self._beside = beside
        self._announcer = Announcer(directory, self.record)
        self._announced = False

    def record(self) -> NodeRecord:
        """What is true now."""
        budget = self.engine.budget if self.engine is not None else None
        return NodeRecord(
            peer=self.swarm.peer,
            version=__version__[:32],
            model=self._model,
            start=self.span[0],
            end=self.span[1],
            state=self.state,
            dtype=self._dtype,
            blocks_per_s=self.blocks_per_s,
            free_tokens=budget.free + self.silent_tokens() if budget is not None else 0,
            total_tokens=budget.total if budget is not None else 0,
            next_hop_ms=dict(self._next_hop_ms),
            addresses=[one for one in self.swarm.addresses if len(one) <= MAX_ADDRESS_CHARS][:MAX_ADDRESSES],
            since=self.since,
            certificate=self.certificate,
        )

    async def announce(self) -> None:
        """Tell the grid now, and keep telling it.

        Raises:
            SwarmError: no peer accepted the record.
        """
        if self._announced:
            await self._announcer.announce()
        else:
            await self._announcer.start()
            self._announced = True

    async def others(self) -> list[NodeRecord]:
        """Records of the model's other nodes.

        Raises:
            SwarmError: the DHT did not answer.
        """
        return [record for record in await self._directory.nodes(self._model) if record.peer != self.swarm.peer]

    async def seeds(self) -> Addresses:
        """Who may hand out the model's weights: seeds, other nodes as far as they hold them, and the leaderboard.

        Raises:
            SwarmError: the DHT did not answer.
        """
        nodes = {one.peer: tuple(one.addresses) for one in await self.others() if one.state != "joining"}
        others = {} if self._beside is None else await self._beside()
        return {**others, **nodes, **await self.helpers.seeds(self._model)}

    async def measure_next_hops(self, others: list[NodeRecord]) -> None:
        """Ping nodes that can take over where this one ends; announced with the next refresh."""
        end = self.span[1]
        following = [r for r in others if r.state == "serving" and r.start <= end < r.end][:MAX_NEXT_HOPS]
        limit = asyncio.Semaphore(PINGS_AT_ONCE)

        async def measure(record: NodeRecord) -> tuple[PeerId, float | None]:
            async with limit:
                return record.peer, await ping_ms(self.swarm, record)

        measured = await asyncio.gather(*map(measure, following))
        fresh = {str(peer): ms for peer, ms in measured if ms is not None}
        if fresh.keys() != self._next_hop_ms.keys():
            self._announcer.refresh()
        self._next_hop_ms = fresh

    async def stop(self) -> None:
        """Stop announcing; takes the record back, best effort, unless the node is ``returning``."""
        await self._announcer.stop(retract=not self.returning)


async def ping_ms(swarm: Swarm, record: NodeRecord) -> float | None:
    """Round trip to a node, milliseconds, the better of two; None when it does not answer."""
    best: float | None = None
    try:
        await swarm.connect(record.peer, tuple(record.addresses), timeout_s=PING_TIMEOUT_S)
        for _ in range(2):
            started = time.perf_counter()
            await swarm.call(record.peer, PING_CALL, b"", timeout_s=PING_TIMEOUT_S)
            elapsed_ms = (time.perf_counter() - started) * 1000
            best = elapsed_ms if best is None else min(best, elapsed_ms)
    except GridError as error:
        log.debug("No ping from %s: %s", record.peer, error)
    return best
