"""How a chain's nodes stand with the grid: who is admitted still, and whose certificate was renewed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from gridllm.errors import CertificateError, GridError
from gridllm.ids import PeerId
from gridllm_client.hop import Hop
from gridllm_client.routes import Routes

RECHECK_S = 1.0  # between looks at the certificates of a chain in use; notices are heeded at once
AGED_S = 60.0  # a certificate that expires so soon has a successor by now, which the neighbours must see
RENEW_S = 10.0  # between looks into the directory for it


class Standing:
    """The certificates of one chain's hops."""

    def __init__(self, routes: Routes, hops: Callable[[], Sequence[Hop]]) -> None:
        """``hops``: those of the chain by now; a repair or the session's end changes them at any time."""
        self._routes = routes
        self._hops = hops
        self._clock: Callable[[], float] = time.monotonic
        self._checked_at = self._renewed_at = float("-inf")

    def recheck_due(self) -> bool:
        """Whether it is time to look at the nodes' certificates again; True once in ``RECHECK_S``."""
        now = self._clock()
        if now - self._checked_at < RECHECK_S:
            return False
        self._checked_at = now
        return True

    def unadmitted(self) -> list[tuple[PeerId, CertificateError]]:
        """Hops that are admitted no longer, and why."""
        found = []
        for hop in self._hops():
            try:
                self._routes.check(hop.record)
            except CertificateError as error:
                found.append((hop.peer, error))
        return found

    async def renew_aged(self) -> bool:
        """Take over the renewed certificates of hops whose own is about to expire; True: hand them round."""
        now = self._clock()
        if now - self._renewed_at < RENEW_S:
            return False
        aged = set()
        for hop in self._hops():
            with contextlib.suppress(CertificateError):
                if self._routes.left_s(hop.record) < AGED_S:
                    aged.add(hop.peer)
        if not aged:
            return False
        self._renewed_at = now
        return bool(await self.renew(aged))

    async def renew(self, peers: Collection[PeerId]) -> set[PeerId]:
        """Those of ``peers`` that show another certificate by now, which their hops carry from now on."""
        try:
            fresh = {record.peer: record for record in await self._routes.records(fresh=True)}
        except GridError:
            return set()  # the directory does not answer; what follows may still do without it
        renewed = set()
        for hop in self._hops():
            record = fresh.get(hop.peer)
            if hop.peer in peers and record is not None and record.certificate != hop.record.certificate:
                hop.record = msgspec.structs.replace(hop.record, certificate=record.certificate)
                renewed.add(hop.peer)
        return renewed
