"""What the models of a node share while it is in one swarm: links, papers, weights handed out, authorities' calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import Final

from gridllm.admission.cards import leaderboard_sources
from gridllm.charter.document import ModelEntry
from gridllm.charter.fetch import serve_charter
from gridllm.errors import GridError, ModelError
from gridllm.ids import ModelRoot
from gridllm.models.seeding import Seeding, Shelf
from gridllm.node.counter.counter import Counter
from gridllm.node.enrolment import Membership
from gridllm.node.hosting import Hosting
from gridllm.node.presence import Presence
from gridllm.node.renewal import Renewal, serve_rechecks
from gridllm.node.service.switchboard import Switchboard
from gridllm.swarm.directory import Directory
from gridllm.swarm.helpers import Helpers
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

FAREWELL_S: Final = 2.0  # for taking a record back
SEED_STREAMS: Final = 16  # of weights, to others that lack them


class Site:
    """One node's in one swarm. What it answers it answers until the swarm is left: handlers cannot be taken back."""

    def __init__(self, swarm: Swarm, membership: Membership) -> None:
        self.swarm = swarm
        self.switchboard = Switchboard(swarm)
        self.counter: Counter | None = None  # where clients pay, from the first serving on
        self.presences: list[Presence] = []  # of the models that are announced
        self._signed = membership.signed
        self._gate = membership.standing.gate
        self._helpers = Helpers(swarm, membership.signed.grid, self._gate.admit_helper)
        self._manifests: dict[ModelRoot, bytes] = {}
        self._shelf = Shelf()
        self._seeding = False
        self._renewals: list[Renewal] = []

    def presence(self, entry: ModelEntry, dtype: str) -> Presence:
        """The node as the server of that model, not announced yet."""
        directory = Directory(self.swarm, self._signed.grid, self._gate.admit)
        beside = partial(leaderboard_sources, self.swarm, self._signed, self._gate.board, entry.root)
        presence = Presence(self.swarm, directory, self._helpers, entry.model_root, dtype, beside)
        self.presences.append(presence)
        return presence

    async def dismiss(self, presence: Presence) -> None:
        """Announce that model no more; best effort, since records expire."""
        if presence in self.presences:
            self.presences.remove(presence)
            with contextlib.suppress(TimeoutError, GridError):
                async with asyncio.timeout(FAREWELL_S):
                    await presence.stop()
            presence.engine = None  # its span's memory is to be free

    async def farewell(self) -> None:
        """The node leaves the swarm."""
        for presence in list(self.presences):
            await self.dismiss(presence)

    async def hand_out_papers(self, root: ModelRoot, manifest: bytes) -> None:
        """Hand out the charter, and the manifest of that model."""
        begun = bool(self._manifests)
        self._manifests[root] = manifest
        if not begun:
            await serve_charter(self.swarm, self._signed.raw, self._manifests)

    async def seed(self, root: ModelRoot, hosting: Hosting) -> None:
        """Hand out what is here of the model's files, less eagerly than a seed would: serving goes first."""
        try:
            await asyncio.to_thread(self._shelf.put, root, hosting.manifest, hosting.folder)
        except ModelError as error:
            log.warning("This node hands out no weights: %s", error)
        if not self._seeding:
            self._seeding = True
            await Seeding(self._shelf, streams=SEED_STREAMS, reads_at_once=1).serve(self.swarm)

    async def answer_authorities(self, renewal: Renewal) -> None:
        """An authority that wants the node measured again means the model that it serves since last."""
        self._renewals.append(renewal)
        if len(self._renewals) == 1:
            await serve_rechecks(self.swarm, self._signed, lambda: self._renewals[-1])

    def release(self, renewal: Renewal) -> None:
        """That model is served no longer."""
        if len(self._renewals) > 1 and renewal in self._renewals:
            self._renewals.remove(renewal)
