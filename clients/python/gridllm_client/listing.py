"""The records of a model's nodes: read from the directory when they are needed, and used for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gridllm.errors import SwarmError
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.directory import TTL_S
from gridllm.wire.record import NodeRecord

FRESH_S: Final = 3.0  # records younger than this are not fetched again
STALE_S: Final = TTL_S  # while the directory does not answer, older ones still do: announcements last as long


class Nodes(Protocol):
    """The part of the directory that clients use."""

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        """Fresh records of the nodes that serve ``model``."""
        ...

    def announced_at(self, peer: PeerId) -> float:
        """When the node announced itself last, as far as was read: Unix time; 0 when never."""
        ...

    def shut_out(self, model: ModelRoot) -> list[NodeRecord]:
        """Records read last of nodes that are not admitted."""
        ...


class Listing:
    """One model's nodes."""

    def __init__(self, directory: Nodes, model: ModelRoot, clock: Callable[[], float]) -> None:
        self.latest: list[NodeRecord] = []
        """What was read last."""
        self._directory = directory
        self._model = model
        self._clock = clock
        self._read_at = float("-inf")
        self._reading: asyncio.Task[list[NodeRecord]] | None = None

    async def records(self, *, fresh: bool) -> list[NodeRecord]:
        """Records at most ``FRESH_S`` old, or read anew.

        Raises:
            SwarmError: the directory does not answer; unless ``fresh``, only where those read last are too old, too.
        """
        if not fresh and self._clock() - self._read_at < FRESH_S:
            return self.latest
        if self._reading is None:
            self._reading = asyncio.create_task(self._directory.nodes(self._model))
        reading = self._reading
        try:
            records = await asyncio.shield(reading)
            if self._reading is reading:
                self.latest, self._read_at = records, self._clock()
        except SwarmError:
            if fresh or self._clock() - self._read_at >= STALE_S:
                raise
            records = self.latest
        finally:
            if self._reading is reading and reading.done():
                self._reading = None
        return records

    def forget(self) -> None:
        """What was read no longer counts, nor what is being read: nodes may be admitted no longer."""
        self._read_at, self._reading = float("-inf"), None
