"""The grid's directory: which node serves what, as signed records in the DHT. It gives hints; signatures decide."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gridllm.errors import CertificateError, GridError, SwarmError, WireError
from gridllm.ids import GridId, ModelRoot, PeerId
from gridllm.swarm.interface import Stored, Swarm
from gridllm.wire.record import NodeRecord, decode_record, encode_record

log = logging.getLogger(__name__)

SHARDS: Final = 4  # keys per model; a key works well up to about 500 records
NAME: Final = "node"
TTL_S: Final = 30.0
CHECKED_AT_ONCE: Final = 16  # records; then the event loop has its turn: a new certificate costs 0.2 ms
GONE: Final = b""  # stored over a record to take it back: the DHT can replace, not delete


def shard_key(grid: GridId, model: ModelRoot, shard: int) -> str:
    """The DHT key of one shard of a model's nodes."""
    return f"{grid}/nodes/{model}/{shard}"


def shard_of(peer: PeerId) -> int:
    """The shard a peer announces itself in."""
    return hashlib.sha256(peer.encode("ascii")).digest()[0] % SHARDS


Admit = Callable[[NodeRecord], NodeRecord]
"""Returns the record as far as it may be believed; raises CertificateError (``admission.gate.Gatekeeper.admit``)."""


class Directory:
    """Reads and writes one grid's node records."""

    def __init__(self, swarm: Swarm, grid: GridId, admit: Admit | None = None) -> None:
        """``admit`` decides whose records count; None: everybody's, which only an open grid's readers may want."""
        self._swarm = swarm
        self._grid = grid
        self._admit = admit
        self._seen: dict[ModelRoot, dict[PeerId, tuple[str, ...]]] = {}  # where the nodes read last can be dialled
        self._announced_at: dict[ModelRoot, dict[PeerId, float]] = {}  # of the nodes read last
        self._shut_out: dict[ModelRoot, list[NodeRecord]] = {}  # of the nodes read last, those that are not admitted
        self._published: dict[str, float] = {}  # key → latest expiration stored there, Unix time

    async def publish(self, record: NodeRecord, ttl_s: float = TTL_S) -> None:
        """Announce this node for ``ttl_s`` seconds.

        Raises:
            SwarmError: no peer accepted the record.
            WireError: the record is too large.
        """
        key = shard_key(self._grid, record.model, shard_of(self._swarm.peer))
        await self._store(key, encode_record(record), time.time() + ttl_s)

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        """Records of the admitted nodes that announce ``model`` now, sorted by peer.

        What does not parse or fit is left out.

        Raises:
            SwarmError: the DHT did not answer.
        """
        return [record for record, fault in await self.census(model) if fault is None]

    async def census(self, model: ModelRoot) -> list[tuple[NodeRecord, CertificateError | None]]:
        """Records of all nodes that announce ``model``, sorted by peer, each with why its node is not admitted.

        Raises:
            SwarmError: the DHT did not answer.
        """
        shards = await asyncio.gather(*(self._swarm.fetch(shard_key(self._grid, model, i)) for i in range(SHARDS)))
        found: dict[PeerId, NodeRecord] = {}
        announced: dict[PeerId, float] = {}
        for shard in shards:
            for (owner, name), stored in shard.items():
                record = _record_of(owner, name, stored, model)
                if record is not None:
                    found[owner], announced[owner] = record, stored.expires_at - TTL_S
        self._announced_at[model] = announced  # strangers come and go: nothing is kept of those that are gone
        counted: list[tuple[NodeRecord, CertificateError | None]] = []
        for peer in sorted(found):
            counted.append(self._admitted(found[peer]))
            if len(counted) % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._seen[model] = {record.peer: tuple(record.addresses) for record, fault in counted if fault is None}
        self._shut_out[model] = [record for record, fault in counted if fault is not None]
        return counted

    @property
    def seen(self) -> dict[PeerId, tuple[str, ...]]:
        """Where the admitted nodes can be dialled, of all models as each was read last."""
        return {peer: addresses for known in self._seen.values() for peer, addresses in known.items()}

    def announced_at(self, peer: PeerId) -> float:
        """When the node announced itself last, as far as was read, by its own clock: Unix time; 0 when never."""
        return max((known.get(peer, 0.0) for known in self._announced_at.values()), default=0.0)

    def shut_out(self, model: ModelRoot) -> list[NodeRecord]:
        """Records read last of nodes that are not admitted: nobody routes to them."""
        return self._shut_out.get(model, [])

    async def retract(self) -> None:
        """Take back everything this node announced; best effort, since records expire anyway."""
        for key, expires_at in list(self._published.items()):
            with contextlib.suppress(SwarmError):
                await self._store(key, GONE, expires_at)

    def _admitted(self, record: NodeRecord) -> tuple[NodeRecord, CertificateError | None]:
        if self._admit is None:
            return record, None
        try:
            return self._admit(record), None
        except CertificateError as error:
            log.debug("Node %s is not admitted: %s", record.peer, error)
            return record, error

    async def _store(self, key: str, value: bytes, expires_at: float) -> None:
        # An overwrite counts only when it expires later than what it replaces; hardly later, so that a node that
        # starts again at once is not shut out by the record it took back.
        expires_at = max(expires_at, self._published.get(key, 0.0) + 1e-3)
        if not await self._swarm.store(key, NAME, value, expires_at=expires_at):
            raise SwarmError("No peer of the grid accepted this node's announcement; it will be tried again.")
        self._published[key] = expires_at


def _record_of(owner: PeerId, name: str, stored: Stored, model: ModelRoot) -> NodeRecord | None:
    """The record in ``stored`` if it is the owner's own, of this model, and parses."""
    if name != NAME or stored.value == GONE:
        return None
    try:
        record = decode_record(stored.value)
    except WireError as error:
        log.debug("Left out a record of %s: %s", owner, error)
        return None
    if record.peer != owner or record.model != model:
        log.debug("Left out a record of %s that speaks for peer %s and model %s", owner, record.peer, record.model)
        return None
    return record


class Announcer:
    """Keeps this node's record fresh: ``async with Announcer(directory, make_record)``; retracts it at the end."""

    def __init__(
        self,
        directory: Directory,
        make_record: Callable[[], NodeRecord | Awaitable[NodeRecord]],
        *,
        ttl_s: float = TTL_S,
    ) -> None:
        self._directory = directory
        self._make_record = make_record
        self._ttl_s = ttl_s
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce once, then refresh in the background every third of the time to live.

        Raises:
            GridError: the first announcement failed.
        """
        await self.announce()
        self._task = asyncio.create_task(self._run())

    def refresh(self) -> None:
        """The record changed: announce it now rather than at the next round."""
        self._changed.set()

    async def announce(self) -> None:
        """Make and publish the record once. Raises what ``Directory.publish`` raises."""
        record = self._make_record()
        await self._directory.publish(record if isinstance(record, NodeRecord) else await record, self._ttl_s)

    async def stop(self, *, retract: bool = True) -> None:
        """Stop refreshing and take the record back; leave it to expire when the node will be back at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if retract:
            await self._directory.retract()

    async def __aenter__(self) -> Announcer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ttl_s / 3):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.announce()
            except GridError as error:
                log.warning("This node could not announce itself: %s", error)
