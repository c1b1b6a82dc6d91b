"""A serving volunteer's life: enter the grid, host a span, serve it, move where it is needed more, drain, leave.

What is held outlives what is lost: the span stays in memory when the libp2p daemon dies and a new one is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

from gridllm.admission.cards import leaderboard_sources
from gridllm.admission.proof.sample import sample_bytes
from gridllm.charter.fetch import serve_charter
from gridllm.charter.gossip import gossiping
from gridllm.errors import GridError, ModelError, SwarmError
from gridllm.ledger.statements import account_of
from gridllm.models.manifest import Manifest
from gridllm.models.seeding import Seeding, Shelf
from gridllm.models.sizes import block_size
from gridllm.node.counter import Counter, counter_in
from gridllm.node.enrolment import Enrolment, Membership
from gridllm.node.hosting import Hosting, check_room, prepare
from gridllm.node.presence import Presence
from gridllm.node.pulse import beat
from gridllm.node.renewal import Renewal
from gridllm.node.report import Report
from gridllm.node.service import NodeService
from gridllm.node.source import obtain_manifest
from gridllm.node.stops import Ending, Stops, until_stopped
from gridllm.node.surroundings import Surroundings
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import BlockRange
from gridllm.quantities import spell_earnings
from gridllm.swarm.directory import Directory
from gridllm.swarm.helpers import Helpers
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

T = TypeVar("T")

RESTARTS: Final = 6  # in a row, of a swarm that keeps failing
FIRST_BACKOFF_S: Final = 1.0
STEADY_S: Final = 60.0  # a swarm that lived this long starts the count anew
FAREWELL_S: Final = 2.0  # for taking the record back
SEED_STREAMS: Final = 16  # of weights, to others that lack them
REVOKED_GRACE_S: Final = 2.0  # for clients to hear that they must move


class Volunteer:
    """Runs a node from start to end: ``await Volunteer(…).run()``."""

    def __init__(
        self,
        membership: Membership,
        wishes: Wishes,
        open_swarm: Callable[[], Awaitable[Swarm]],
        report: Report,
        stops: Stops,
    ) -> None:
        self._signed = membership.signed
        self._entry = membership.entry
        self._pins = membership.pins
        self._identity = membership.identity
        self._standing = membership.standing
        self._gate = membership.standing.gate
        self._enrolment = Enrolment(membership, wishes)
        self._lapsed = False  # it served before, and waits to be admitted again
        self._wishes = wishes
        self._open_swarm = open_swarm
        self._report = report
        self._stops = stops
        self._hosting: Hosting | None = None
        self._target: BlockRange | None = None  # where to move; None: choose
        self._left: BlockRange | None = None  # where it served before it moved
        self._settled = False  # it cannot move: the files of other blocks are not to be had
        self._surroundings = Surroundings(membership.signed, membership.pins)

    async def run(self) -> None:
        """Serve until stopped. Nothing of it is left running, whatever ends it.

        Raises:
            SwarmError: the grid cannot be entered, or the libp2p daemon keeps dying.
            UsageError, ModelError: what was asked for cannot be served.
            NotAdmittedHere: this grid has minimums, and the machine was measured below them.
            CertificateError: the maintainers revoked its admission.
        """
        failures = 0
        try:
            while True:
                entered_at = time.monotonic()
                try:
                    ending = await self._in_swarm()
                except SwarmError as error:
                    if self._hosting is None and not self._lapsed:
                        raise  # it never worked: for the volunteer to mend
                    self._report.note(str(error))
                    ending = Ending.LOST
                if ending is Ending.STOPPED:
                    return
                if ending in (Ending.MOVING, Ending.LAPSED):
                    await self._let_go()  # an examination fills the memory that the span takes
                    continue
                failures = 1 if time.monotonic() - entered_at > STEADY_S else failures + 1
                if failures > RESTARTS and not self._lapsed:
                    raise SwarmError(
                        f"The connection to the grid failed {failures} times in a row; look at the messages above, "
                        "then run gridllm serve again."
                    )
                pause_s = FIRST_BACKOFF_S * 2 ** min(failures - 1, RESTARTS) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
                self._report.note(f"Lost the connection to the grid; entering again in {pause_s:.1f} s.")
                if await self._or_stop(asyncio.sleep(pause_s)) is Ending.STOPPED:
                    return
        finally:
            await self._let_go()

    async def _in_swarm(self) -> Ending:
        """One swarm's time, until it fails or the volunteer stops. Raises what cannot be mended by a new swarm."""
        self._report.phase(f"Entering {self._signed.charter.name}")
        async with contextlib.AsyncExitStack() as leaving:
            presence = await self._or_stop(self._enter(leaving))
            if isinstance(presence, Ending):
                return presence
            hosting = await self._or_stop(self._host(presence), presence.swarm)
            if isinstance(hosting, Ending):
                return hosting
            ending = await self._serve(presence, hosting)
            # What comes next enters afresh: handlers cannot be taken back from a swarm.
            presence.returning = ending in (Ending.LOST, Ending.MOVING)
            return ending

    async def _enter(self, leaving: contextlib.AsyncExitStack) -> Presence:
        swarm = await self._open_swarm()
        leaving.push_async_callback(swarm.close)
        await leaving.enter_async_context(gossiping(swarm, self._gate.board, self._surroundings.acquaintances))
        directory = Directory(swarm, self._signed.grid, self._gate.admit)
        helpers = Helpers(swarm, self._signed.grid, self._gate.admit_helper)
        beside = partial(leaderboard_sources, swarm, self._signed, self._gate.board, self._entry.root)
        presence = Presence(swarm, directory, helpers, self._entry.model_root, self._wishes.dtype, beside)
        leaving.push_async_callback(_farewell, presence)
        return presence

    async def _host(self, presence: Presence) -> Hosting:
        """Admission, then the span: still in memory, or loaded now. Also hands out charter and manifest."""
        swarm = presence.swarm
        records = await presence.others()
        manifest, raw = await obtain_manifest(
            swarm,
            self._entry,
            self._pins,
            first_peers=self._pins.initial_peers(self._signed),
            records=records,
            folder=self._wishes.folder,
            beside=await leaderboard_sources(swarm, self._signed, self._gate.board, self._entry.root),
        )
        await serve_charter(swarm, self._signed.raw, {self._entry.model_root: raw})
        self._surroundings.remember(records)
        if self._hosting is not None and not self._standing.good:
            await self._let_go()
        if self._hosting is None and self._target is None and not self._lapsed:
            await check_room(self._entry, manifest, self._wishes, self._beside_bytes(manifest))
        await self._enrolment.until_admitted(swarm, manifest, self._report, patient=self._lapsed)
        presence.certificate = self._standing.raw
        if self._hosting is None:
            self._hosting = await self._prepare(manifest, presence)
        await self._seed(swarm, self._hosting)
        presence.span, presence.engine = self._hosting.span, self._hosting.engine
        presence.blocks_per_s = self._hosting.blocks_per_s
        return self._hosting

    async def _prepare(self, manifest: Manifest, presence: Presence) -> Hosting:
        """The blocks it is to move to, or such as it chooses; the ones it left where the files of others are not to be
        had: a move must not cost the grid a node."""
        beside_bytes = self._beside_bytes(manifest)
        load = partial(prepare, self._entry, manifest, self._wishes, presence, self._report, beside_bytes=beside_bytes)
        target, self._target = self._target, None
        try:
            return await load(target)
        except ModelError as error:
            if target is None or self._left is None:
                raise
            self._settled = True
            self._report.note(f"{error} Going back to blocks {self._left[0]}:{self._left[1]}, and staying there.")
            return await load(self._left)

    def _beside_bytes(self, manifest: Manifest) -> int:
        """Memory to leave free beside the span: a node with a certificate is measured again while it serves."""
        if not self._standing.required:
            return 0
        return sample_bytes(self._entry.blocks, block_size(manifest, self._wishes.dtype).weight_bytes)

    async def _seed(self, swarm: Swarm, hosting: Hosting) -> None:
        """Hand out what is here of the model's files, less eagerly than a seed would: serving goes first."""
        shelf = Shelf()
        try:
            await asyncio.to_thread(shelf.put, self._entry.model_root, hosting.manifest, hosting.folder)
        except ModelError as error:
            log.warning("This node hands out no weights: %s", error)
        await Seeding(shelf, streams=SEED_STREAMS, reads_at_once=1).serve(swarm)

    async def _serve(self, presence: Presence, hosting: Hosting) -> Ending:
        """Serve until stopped, lost or needed elsewhere; drains unless the swarm is lost."""
        async with self._counter(presence.swarm, hosting) as counter:
            ending = await self._serve_at(counter, presence, hosting)
        if counter is not None:
            earned, waiting = counter.purse.earnings
            self._report.note(f"This node {spell_earnings(earned, waiting)}.")
        self._lapsed = ending is Ending.LAPSED
        if (revoked := self._standing.revoked()) is not None and ending is Ending.LAPSED:
            raise revoked
        return ending

    def _counter(self, swarm: Swarm, hosting: Hosting) -> AbstractAsyncContextManager[Counter | None]:
        path = self._pins.purse_path(self._signed, account_of(swarm.peer))
        manifest, raw = hosting.manifest, self._standing.raw
        return counter_in(swarm, self._signed, self._entry, manifest, self._identity, path, raw)

    async def _serve_at(self, counter: Counter | None, presence: Presence, hosting: Hosting) -> Ending:
        swarm, engine = presence.swarm, hosting.engine
        till, purse = (counter.till, counter.purse) if counter is not None else (None, None)
        service = NodeService(swarm, engine, self._entry.model_root, self._gate, self._standing.fault, till)
        renewal = self._renewal(service, presence, hosting, counter)
        try:
            await service.start()
            await renewal.serve_rechecks(swarm, self._signed)
            presence.state, presence.since = "serving", time.time()
            await presence.announce()
            self._report.serving(presence.record())
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(beat(service, engine, self._report, purse)),
                    tasks.create_task(self._surroundings.survey(presence)),
                ]
                ending = await self._or_stop(self._until_called_off(service, presence, renewal), swarm)
                if ending is not Ending.LOST:
                    grace_s = REVOKED_GRACE_S if self._standing.revoked() else self._wishes.grace_s
                    await self._drain(service, presence, grace_s)
                for task in background:
                    task.cancel()
        finally:
            await service.stop()
        return ending

    def _renewal(self, service: NodeService, presence: Presence, hosting: Hosting, counter: Counter | None) -> Renewal:
        async def show() -> None:
            presence.certificate = self._standing.raw
            if counter is not None and self._standing.raw:
                counter.handing.enrol(self._standing.raw)
            await presence.announce()

        examine = partial(self._enrolment.examine, presence.swarm, hosting.manifest)
        return Renewal(self._standing, examine, show, self._report, busy=lambda: service.sessions > 0)

    async def _until_called_off(self, service: NodeService, presence: Presence, renewal: Renewal) -> Ending:
        """Wait until other blocks need this node more, or it may serve no longer."""
        moving = asyncio.create_task(self._move(service, presence))
        lapsing = asyncio.create_task(renewal.run())
        try:
            await asyncio.wait((moving, lapsing), return_when=asyncio.FIRST_COMPLETED)
            if lapsing.done():
                fault = lapsing.result()
                if fault.rule != "revoked":
                    self._report.note(f"{fault} This node serves nobody until it is admitted again.")
                return Ending.LAPSED
            self._target, self._left = moving.result(), presence.span
            return Ending.MOVING
        finally:
            for task in (moving, lapsing):
                task.cancel()
            await asyncio.gather(moving, lapsing, return_exceptions=True)

    async def _drain(self, service: NodeService, presence: Presence, grace_s: float) -> None:
        presence.state = "draining"
        with contextlib.suppress(GridError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await presence.announce()
        if service.sessions:
            self._report.phase(f"Draining: {service.sessions} sessions may go on for {grace_s:g} s; Ctrl-C leaves now")
        hurry = asyncio.create_task(self._stops.hurry.wait())
        draining = asyncio.create_task(service.drain(grace_s))
        try:
            await asyncio.wait((hurry, draining), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hurry, draining):
                task.cancel()
            await asyncio.gather(hurry, draining, return_exceptions=True)

    async def _move(self, service: NodeService, presence: Presence) -> BlockRange:
        """Wait until other blocks need this node more; returns them. Never returns when the blocks are fixed."""

        def stays() -> bool:
            return self._wishes.blocks is not None or self._settled or service.sessions > 0

        target = await self._surroundings.needed_elsewhere(presence, self._entry.blocks, stays)
        self._report.note(f"Blocks {target[0]}:{target[1]} need this node more; moving there.")
        return target

    async def _or_stop(self, work: Awaitable[T], swarm: Swarm | None = None) -> T | Ending:
        return await until_stopped(work, self._stops.stop, swarm, self._report.note)

    async def _let_go(self) -> None:
        """Free the span."""
        if self._hosting is not None:
            await self._hosting.engine.stop()
            self._hosting = None


async def _farewell(presence: Presence) -> None:
    with contextlib.suppress(TimeoutError, GridError):
        async with asyncio.timeout(FAREWELL_S):
            await presence.stop()
