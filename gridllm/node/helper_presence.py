"""How a helper shows itself: the record that others read, and the news for whoever started it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gridllm import __version__
from gridllm.errors import GridError
from gridllm.ids import ModelRoot
from gridllm.node.report import Report
from gridllm.swarm.directory import TTL_S
from gridllm.swarm.helpers import Helpers
from gridllm.swarm.interface import Swarm
from gridllm.wire.helper import HelperRecord, HelperRole

log = logging.getLogger(__name__)

MAX_ADDRESSES: Final = 8
MAX_ADDRESS_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class HelperPulse:
    """The helper's life at one moment."""

    peers: int | None  # connected now; None: the swarm cannot tell
    readers: int  # that fetch weights now
    sent_bytes: int  # of weights, since the start
    uptime_s: float


class HelperReport(Report, Protocol):
    """Where news go; what only serving nodes have to say is never called."""

    def helping(self, record: HelperRecord) -> None:
        """Others can use this helper from now on."""
        ...

    def helper_pulse(self, pulse: HelperPulse) -> None:
        """Every few seconds while helping."""
        ...


class HelperPresence:
    """This helper as the grid sees it."""

    def __init__(
        self, swarm: Swarm, helpers: Helpers, role: HelperRole, roots: list[ModelRoot], certificate: Callable[[], bytes]
    ) -> None:
        self._swarm = swarm
        self._helpers = helpers
        self._role = role
        self._roots = roots
        self._certificate = certificate
        self._since = time.time()

    def record(self) -> HelperRecord:
        """What is true now."""
        return HelperRecord(
            peer=self._swarm.peer,
            role=self._role,
            models=list(self._roots),
            addresses=[one for one in self._swarm.addresses if len(one) <= MAX_ADDRESS_CHARS][:MAX_ADDRESSES],
            version=__version__[:32],
            since=self._since,
            certificate=self._certificate(),
        )

    async def announce(self) -> None:
        """Tell the grid now. Raises SwarmError."""
        await self._helpers.publish(self.record())

    async def keep_announcing(self) -> None:
        """Before each record expires."""
        while True:
            await asyncio.sleep(TTL_S / 3)
            try:
                await self.announce()
            except GridError as error:
                log.warning("This helper could not announce itself: %s", error)
