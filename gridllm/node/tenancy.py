"""One model on this node: its admission and its span. Both outlive the swarm: a lost connection costs no loading."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Callable
from functools import partial

from gridllm.admission.cards import leaderboard_sources
from gridllm.admission.proof.sample import sample_bytes
from gridllm.errors import GridError, ModelError, SwarmError
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import block_size
from gridllm.node.enrolment import Enrolment, Membership
from gridllm.node.hosting import Hosting, check_room, prepare
from gridllm.node.memory import free_bytes
from gridllm.node.presence import Presence
from gridllm.node.report import Report
from gridllm.node.room import lend_room, room_beside, take_room_back
from gridllm.node.site import Site
from gridllm.node.source import obtain_manifest
from gridllm.node.surroundings import Surroundings
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import BlockRange


class Tenancy:
    """A node has one; two, while it goes over from one model to another."""

    def __init__(self, membership: Membership, wishes: Wishes, surroundings: Surroundings) -> None:
        self.membership = membership
        self.entry = membership.entry
        self.standing = membership.standing
        self.enrolment = Enrolment(membership, wishes)
        self.wishes = wishes
        self.hosting: Hosting | None = None  # the span in memory
        self.lapsed = False  # it served before, and waits to be admitted again
        self.target: BlockRange | None = None  # where to move; None: choose
        self.left: BlockRange | None = None  # where it served before it moved
        self.settled = False  # it cannot move: the files of other blocks are not to be had
        self.surroundings = surroundings
        self._room_bytes: int | None = None  # what it may take beside another one's span

    async def learn(self, site: Site, presence: Presence) -> Manifest:
        """Get the manifest, and hand it out.

        Raises:
            ModelError: nobody has it.
            SwarmError: the grid does not answer.
        """
        us, entry = self.membership, self.entry
        records = await presence.others()
        beside = await leaderboard_sources(site.swarm, us.signed, us.standing.gate.board, entry.root)
        if entry not in us.signed.charter.models:  # first peers may not have heard of it, or have no leaderboard to ask
            beside = {**await presence.helpers.seeds(entry.model_root), **beside}
        manifest, raw = await obtain_manifest(
            site.swarm,
            entry,
            us.pins,
            first_peers=us.pins.initial_peers(us.signed),
            records=records,
            folder=self.wishes.folder,
            beside=beside,
        )
        await site.hand_out_papers(entry.model_root, raw)
        self.surroundings.remember(records)
        return manifest

    async def host(self, site: Site, presence: Presence, report: Report, *, patience_s: float | None = None) -> Hosting:
        """Admission, then the span: still in memory, or loaded now.

        Args:
            patience_s: for being admitted; None: as long as ``Enrolment`` has.

        Raises:
            TimeoutError: it was not admitted in time.
            UsageError, ModelError: what was asked for cannot be served.
            AdmissionError, CertificateError: this node is not admitted to serve it.
            SwarmError: the grid does not answer.
        """
        manifest = await self.learn(site, presence)
        if self.hosting is not None and not self.standing.good:
            await self.let_go()
        if self.hosting is None and self.target is None and not self.lapsed:
            await check_room(self.entry, manifest, self._bounded(), self.margin_bytes(manifest))
        async with asyncio.timeout(patience_s):
            await self.enrolment.until_admitted(site.swarm, manifest, report, patient=self.lapsed)
        presence.certificate = self.standing.raw
        if self.hosting is None:
            self.hosting = await self._prepare(manifest, presence, report)
        await site.seed(self.entry.model_root, self.hosting)
        presence.span, presence.engine = self.hosting.span, self.hosting.engine
        presence.blocks_per_s = self.hosting.blocks_per_s
        return self.hosting

    async def host_again(self, site: Site, presence: Presence, report: Report) -> None:
        """As an old model, while another one takes its place. It is not measured again for that: an examination would
        keep its successor waiting, and take the memory that is the successor's.

        Raises:
            CertificateError: it may be served no longer.
            ModelError, UsageError, SwarmError: as ``host``.
        """
        if (fault := self.standing.fault()) is not None and not self.standing.recall():
            raise fault
        await self.host(site, presence, report)

    async def find_room(self, manifest: Manifest, other: Tenancy) -> Callable[[], None] | None:
        """Take room beside another model's span, if there is enough for as large a part of this one, and to be measured
        for it; returns what gives it back to the other's caches, or None where there is too little."""
        if other.hosting is None or await self._measured_too_small(manifest):
            return None
        free = await asyncio.to_thread(free_bytes, self.wishes.device) - self.margin_bytes(manifest)
        room = room_beside(other.hosting, other.entry.blocks, self.entry, manifest, self.wishes, free)
        if room is None:
            return None
        self._room_bytes = room
        return lend_room(other.hosting)

    async def _measured_too_small(self, manifest: Manifest) -> bool:
        """Whether what is free now, beside another model's span, is less than the grid asks of its nodes: measured with
        that, a machine that has enough in all would never be admitted."""
        standing = self.standing
        if not standing.required or standing.good or standing.recall():
            return False
        offered = (await self.enrolment.candidacy(manifest)).memory_bytes
        return offered < standing.gate.board.admission.of(standing.role).memory_bytes

    @property
    def crowded(self) -> bool:
        """Whether it keeps to the room that another model's span left."""
        return self._room_bytes is not None

    async def take_all(self) -> None:
        """The other model's span is gone: its room is for this one's caches."""
        self._room_bytes = None
        if self.hosting is not None:
            await asyncio.to_thread(gc.collect)  # modules refer to one another in circles
            free = await asyncio.to_thread(free_bytes, self.wishes.device)
            take_room_back(self.hosting, self.wishes, free - self.margin_bytes(self.hosting.manifest))

    def margin_bytes(self, manifest: Manifest) -> int:
        """Memory to leave free beside the span: a node with a certificate is measured again while it serves."""
        if not self.standing.required:
            return 0
        return sample_bytes(self.entry.blocks, block_size(manifest, self.wishes.dtype).weight_bytes)

    async def let_go(self) -> None:
        """Free the span; its files may go once neither grid nor node needs them."""
        hosting, self.hosting = self.hosting, None
        try:
            if hosting is not None:
                await hosting.engine.stop()
        finally:
            if self.wishes.borrowing is not None:
                self.wishes.borrowing.release(self.entry.model_root)

    async def _prepare(self, manifest: Manifest, presence: Presence, report: Report) -> Hosting:
        """The blocks it is to move to, or such as it chooses; the ones it left where the files of others are not to be
        had: a move must not cost the grid a node."""
        beside_bytes = self.margin_bytes(manifest)
        load = partial(prepare, self.entry, manifest, self._bounded(), presence, report, beside_bytes=beside_bytes)
        target, self.target = self.target, None
        try:
            return await load(target)
        except ModelError as error:
            if target is None or self.left is None:
                raise
            self.settled = True
            report.note(f"{error} Going back to blocks {self.left[0]}:{self.left[1]}, and staying there.")
            return await load(self.left)

    def _bounded(self) -> Wishes:
        if self._room_bytes is None:
            return self.wishes
        return dataclasses.replace(self.wishes, memory_bytes=self._room_bytes)


async def host_all(
    tenancies: list[Tenancy], site: Site, report: Report, patience_s: float | None
) -> list[tuple[Tenancy, Presence]]:
    """Have the spans of all, the current one last. An old one that cannot be served any more is dropped from
    ``tenancies``, with a word to the volunteer: the node goes on with its successor.

    Args:
        patience_s: for the current one's admission; see ``Tenancy.host``.

    Raises:
        TimeoutError: it was not admitted in time.
        SwarmError: the grid does not answer.
        GridError: the current one cannot be served.
    """
    current, hosted = tenancies[-1], []
    if len(tenancies) == 1 and current.crowded:  # the swarm was lost while the other one was taken down
        await current.take_all()
    for tenancy in list(tenancies):
        presence = site.presence(tenancy.entry, tenancy.wishes.dtype)
        try:
            if tenancy is current:
                await tenancy.host(site, presence, report, patience_s=patience_s)
            else:
                await tenancy.host_again(site, presence, report)
            hosted.append((tenancy, presence))
            continue
        except SwarmError:
            raise
        except GridError as error:
            if tenancy is current:
                raise
            why = str(error).rstrip(".")
        report.note(
            f"{tenancy.entry.name} is served here no longer: {why}. This node goes on with {current.entry.name}."
        )
        tenancies.remove(tenancy)
        await site.dismiss(presence)
        await tenancy.let_go()
        await current.take_all()
    return hosted


def still_good(tenancies: list[Tenancy]) -> Tenancy | None:
    """An old one, in memory beside the current one, that may be served on; None: there is none."""
    old = tenancies[0]
    return old if old is not tenancies[-1] and old.hosting is not None and old.standing.good else None


async def let_go_but(kept: Tenancy | None, tenancies: list[Tenancy]) -> None:
    """Free the spans of all others; their room is for the caches of the one that is kept."""
    for tenancy in tenancies:
        if tenancy is not kept:
            await tenancy.let_go()
    if kept is not None:
        await kept.take_all()
