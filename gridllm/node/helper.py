"""The life of a member that serves no blocks: a relay, or a seed that hands out a model's weights as well.

Both serve what every member does (charter, manifests, notices, records of the DHT) and are admitted as nodes are.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from gridllm.admission.cards import leaderboard_sources
from gridllm.charter.fetch import serve_charter
from gridllm.charter.gossip import gossiping
from gridllm.errors import CertificateError, GridError, ModelError, SwarmError
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.manifest import Manifest
from gridllm.models.seeding import Seeding, Shelf, verify_files
from gridllm.node.enrolment import Enrolment, Membership
from gridllm.node.helper_presence import HelperPresence, HelperPulse, HelperReport
from gridllm.node.renewal import Renewal
from gridllm.node.source import Source, obtain_manifest
from gridllm.node.wishes import Wishes
from gridllm.swarm.directory import TTL_S
from gridllm.swarm.helpers import Addresses, Helpers
from gridllm.swarm.interface import Swarm
from gridllm.tasks import racing
from gridllm.wire.helper import HelperRole

PING_CALL: Final = "gridllm.ping"  # as nodes answer it
PULSE_S: Final = 2.0
MOST_DOUBLINGS: Final = 6  # of the pause, while the swarm keeps failing
FIRST_BACKOFF_S: Final = 1.0
STEADY_S: Final = 60.0  # a swarm that lived this long starts the count anew
FAREWELL_S: Final = 2.0  # for taking the record back


class Helper:
    """Runs a relay or seed from start to end: ``await Helper(…).run()``."""

    def __init__(
        self,
        membership: Membership,
        wishes: Wishes,
        role: HelperRole,
        open_swarm: Callable[[], Awaitable[Swarm]],
        report: HelperReport,
        stop: asyncio.Event,
    ) -> None:
        self._us = membership
        self._wishes = wishes
        self._role = role
        self._open_swarm = open_swarm
        self._report = report
        self._stop = stop
        self._enrolment = Enrolment(membership, wishes, (role,))
        self._shelf = Shelf()
        self._helped = False  # it was admitted and announced before
        self._sent_before = 0

    async def run(self) -> None:
        """Help until stopped.

        Raises:
            SwarmError: the grid cannot be entered for the first time; later it tries for ever.
            ModelError: the files to be handed out are not here, or not the grid's.
            AdmissionError: this grid has minimums, and the machine was measured below them.
            CertificateError: the maintainers revoked its admission.
        """
        failures = 0
        while not self._stop.is_set():
            entered_at = time.monotonic()
            try:
                await self._in_swarm()
                continue
            except SwarmError as error:
                failures = 1 if time.monotonic() - entered_at > STEADY_S else failures + 1
                if not self._helped:
                    raise  # it never worked: for the volunteer to mend
                pause_s = FIRST_BACKOFF_S * 2 ** min(failures - 1, MOST_DOUBLINGS) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
                self._report.note(f"{error} Rejoining the grid in {pause_s:.1f} s.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()

    async def _in_swarm(self) -> None:
        """One swarm's time: until it fails (SwarmError), the certificate lapses, or the volunteer stops."""
        signed = self._us.signed
        self._report.phase(f"Entering {signed.charter.name}")
        swarm = await self._open_swarm()
        try:
            async with gossiping(swarm, self._us.standing.gate.board, lambda: self._us.pins.peers(signed)):
                await self._unless_called_off(swarm, self._help(swarm))
        finally:
            await swarm.close()

    async def _help(self, swarm: Swarm) -> None:
        us, standing = self._us, self._us.standing
        helpers = Helpers(swarm, us.signed.grid, standing.gate.admit_helper)
        manifest = await self._serve_papers(swarm)
        seeding = Seeding(self._shelf)
        if self._role == "seed":
            await self._fill_shelf(swarm, manifest, helpers)
            await seeding.serve(swarm)
        await self._enrolment.until_admitted(swarm, manifest, self._report, patient=self._helped)
        presence = HelperPresence(swarm, helpers, self._role, self._shelf.roots, lambda: standing.raw)
        examine = partial(self._enrolment.examine, swarm, manifest)
        renewal = Renewal(standing, examine, presence.announce, self._report)
        await renewal.serve_rechecks(swarm, us.signed)
        try:
            await presence.announce()
            self._helped = True
            self._report.helping(presence.record())
            fault = await _beside(
                renewal.run(), presence.keep_announcing(), self._beat(swarm, seeding), self._look_around(helpers)
            )
        finally:
            self._sent_before += seeding.sent_bytes
            with contextlib.suppress(TimeoutError, GridError):
                async with asyncio.timeout(FAREWELL_S):
                    await helpers.retract()
        if (revoked := standing.revoked()) is not None:
            raise revoked
        self._report.note(f"{fault} This machine helps nobody until it is admitted again.")

    async def _serve_papers(self, swarm: Swarm) -> Manifest:
        """Hand out the charter and its models' manifests, as far as they can be had, and that of the model to be
        measured with, which is returned. Other submitted models' are the leaderboard's and the keepers' to hand out.
        """
        us, board = self._us, self._us.standing.gate.board
        first, raws, wanted = us.pins.initial_peers(us.signed), dict[ModelRoot, bytes](), None
        own = us.signed.charter.models
        for entry in own if us.entry in own else [*own, us.entry]:
            mine = entry == us.entry
            folder = self._wishes.folder if mine else None
            beside = await leaderboard_sources(swarm, us.signed, board, entry.root)
            try:
                manifest, raw = await obtain_manifest(
                    swarm, entry, us.pins, first_peers=first, records=(), folder=folder, beside=beside
                )
            except ModelError:
                if mine:
                    raise
                continue
            raws[entry.model_root] = raw
            wanted = manifest if mine else wanted
        if wanted is None:
            raise ModelError(f"{us.entry.name!r} is not a model of the grid {us.signed.charter.name!r}.")
        await serve_charter(swarm, us.signed.raw, raws)

        async def echo(_peer: PeerId, payload: bytes) -> bytes:
            return payload[:64]

        await swarm.serve_calls(PING_CALL, echo)
        return wanted

    async def _fill_shelf(self, swarm: Swarm, manifest: Manifest, helpers: Helpers) -> None:
        """Have the whole model here, and checked: once for the life of the process."""
        entry, report = self._us.entry, self._report
        if entry.model_root in self._shelf.roots:
            return

        async def others() -> Addresses:
            beside = await leaderboard_sources(swarm, self._us.signed, self._us.standing.gate.board, entry.root)
            return {**beside, **await helpers.seeds(entry.model_root)}

        folder = self._wishes.folder
        if folder is None:
            report.phase(f"Getting the files of {entry.name}")
            folder = await Source(swarm, entry, manifest, others, self._wishes.cache_dir, report.loading).folder(None)
        report.phase(f"Checking the files of {entry.name} in {folder}")
        stopped = threading.Event()
        try:
            await asyncio.to_thread(verify_files, folder, manifest, progress=report.loading, stopped=stopped)
        finally:
            stopped.set()
        await asyncio.to_thread(self._shelf.put, entry.model_root, manifest, folder)
        self._enrolment.files = folder

    async def _beat(self, swarm: Swarm, seeding: Seeding) -> None:
        started = time.monotonic()
        while True:
            peers = None
            with contextlib.suppress(SwarmError):
                peers = await swarm.connected()
            sent = self._sent_before + seeding.sent_bytes
            self._report.helper_pulse(HelperPulse(peers, seeding.readers, sent, time.monotonic() - started))
            await asyncio.sleep(PULSE_S)

    async def _look_around(self, helpers: Helpers) -> None:
        """Remember other helpers for the next start."""
        known: dict[PeerId, tuple[str, ...]] = {}
        while True:
            with contextlib.suppress(GridError):
                found = {one.peer: tuple(one.addresses) for one in await helpers.admitted()}
                if found.items() - known.items():
                    known |= found
                    self._us.pins.remember_peers(self._us.signed, found)
            await asyncio.sleep(TTL_S)

    async def _unless_called_off(self, swarm: Swarm, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` until the volunteer stops or the swarm fails (SwarmError)."""
        async with racing(work, self._stop.wait(), swarm.failed()) as (working, stopping, failing):
            if stopping.done():
                return
            if failing.done():
                raise failing.result()
            working.result()


async def _beside(
    main: Coroutine[Any, Any, CertificateError], *background: Coroutine[Any, Any, None]
) -> CertificateError:
    """The result of ``main``, with the others running meanwhile. What ends one of them ends all, by its own name."""
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(one) for one in background]
            result = await main
            for one in beside:
                one.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    return result
