"""The directory of helpers: relays and seeds, as signed records in the DHT. It gives hints; signatures decide."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from gridllm.errors import CertificateError, SwarmError, WireError
from gridllm.ids import GridId, ModelRoot, PeerId
from gridllm.swarm.directory import GONE, TTL_S
from gridllm.swarm.interface import Stored, Swarm
from gridllm.wire.helper import HelperRecord, decode_helper, encode_helper

log = logging.getLogger(__name__)

NAME: Final = "helper"

AdmitHelper = Callable[[HelperRecord], None]
"""Raises CertificateError when the helper may not do what it announces (``Gatekeeper.admit_helper``)."""

Addresses = dict[PeerId, tuple[str, ...]]


def helpers_key(grid: GridId) -> str:
    """The DHT key of a grid's helpers."""
    return f"{grid}/helpers"


class Helpers:
    """Reads and writes one grid's helper records."""

    def __init__(self, swarm: Swarm, grid: GridId, admit: AdmitHelper | None = None) -> None:
        """``admit`` decides whose records count; None: everybody's."""
        self._swarm = swarm
        self._key = helpers_key(grid)
        self._admit = admit
        self._published = 0.0  # latest expiration stored, Unix time

    async def publish(self, record: HelperRecord, ttl_s: float = TTL_S) -> None:
        """Announce this helper for ``ttl_s`` seconds.

        Raises:
            SwarmError: no peer accepted the record.
            WireError: the record is too large.
        """
        await self._store(encode_helper(record), time.time() + ttl_s)

    async def retract(self) -> None:
        """Take the announcement back; best effort, since records expire anyway."""
        if self._published:
            with contextlib.suppress(SwarmError):
                await self._store(GONE, self._published)

    async def census(self) -> list[tuple[HelperRecord, CertificateError | None]]:
        """All helpers that announce themselves, sorted by peer, each with why it is not admitted.

        Raises:
            SwarmError: the DHT did not answer.
        """
        found: dict[PeerId, HelperRecord] = {}
        for (owner, name), stored in (await self._swarm.fetch(self._key)).items():
            record = _record_of(owner, name, stored)
            if record is not None:
                found[owner] = record
        return [(found[peer], self._fault(found[peer])) for peer in sorted(found)]

    async def admitted(self) -> list[HelperRecord]:
        """Helpers that may do what they announce, this one left out, sorted by peer.

        Raises:
            SwarmError: the DHT did not answer.
        """
        return [one for one, fault in await self.census() if fault is None and one.peer != self._swarm.peer]

    async def seeds(self, root: ModelRoot) -> Addresses:
        """Where the weights of a model are handed out, by admitted seeds.

        Raises:
            SwarmError: the DHT did not answer.
        """
        return {one.peer: tuple(one.addresses) for one in await self.admitted() if one.seeds(root)}

    def _fault(self, record: HelperRecord) -> CertificateError | None:
        if self._admit is None:
            return None
        try:
            self._admit(record)
        except CertificateError as error:
            log.debug("Helper %s is not admitted: %s", record.peer, error)
            return error
        return None

    async def _store(self, value: bytes, expires_at: float) -> None:
        expires_at = max(expires_at, self._published + 1e-3)  # an overwrite counts only when it expires later
        if not await self._swarm.store(self._key, NAME, value, expires_at=expires_at):
            raise SwarmError("No peer of the grid accepted this helper's announcement; it will be tried again.")
        self._published = expires_at


def _record_of(owner: PeerId, name: str, stored: Stored) -> HelperRecord | None:
    """The record in ``stored`` if it is the owner's own and parses."""
    if name != NAME or stored.value == GONE:
        return None
    try:
        record = decode_helper(stored.value)
    except WireError as error:
        log.debug("Left out a helper's record of %s: %s", owner, error)
        return None
    if record.peer != owner:
        log.debug("Left out a helper's record of %s that speaks for %s", owner, record.peer)
        return None
    return record
