"""One model being served in one swarm, from the first session that is taken to the last that ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import Final

from gridllm.errors import GridError, UsageError
from gridllm.node.presence import Presence
from gridllm.node.pulse import beat
from gridllm.node.renewal import Renewal
from gridllm.node.report import Report
from gridllm.node.service.service import NodeService
from gridllm.node.site import FAREWELL_S, Site
from gridllm.node.stops import Ending
from gridllm.node.tenancy import Tenancy
from gridllm.planning.placement import BlockRange
from gridllm.tasks import racing

REVOKED_GRACE_S: Final = 2.0  # for clients to hear that they must move


class Stay:
    """Use as ``stay = Stay(…); try: await stay.open(); … finally: await stay.close()``."""

    def __init__(self, site: Site, tenancy: Tenancy, presence: Presence, report: Report) -> None:
        """``tenancy`` hosts its span."""
        hosting = tenancy.hosting
        if hosting is None:
            raise UsageError(f"No blocks of {tenancy.entry.name} are loaded; they are before they are served.")
        self.tenancy = tenancy
        self.presence = presence
        self.outgoing = False  # another model takes this one's place: it does not move any more
        self._site = site
        self._hosting = hosting
        self._report = report
        standing, counter = tenancy.standing, site.counter
        till = counter.till(tenancy.entry, hosting.manifest) if counter is not None else None
        self.service = NodeService(
            site.swarm,
            hosting.engine,
            tenancy.entry.model_root,
            standing.gate,
            standing.fault,
            till,
            site.switchboard,
        )
        examine = partial(tenancy.enrolment.examine, site.swarm, hosting.manifest)
        self._renewal = Renewal(standing, examine, self._show, report, busy=lambda: self.service.sessions > 0)

    @property
    def name(self) -> str:
        """Of the model, for people."""
        return self.tenancy.entry.name

    async def open(self) -> None:
        """Take sessions from now on, and tell the grid.

        Raises:
            SwarmError: the grid does not take the announcement.
        """
        presence = self.presence
        await self.service.start()
        await self._site.answer_authorities(self._renewal)
        presence.state, presence.since = "serving", time.time()
        presence.silent_tokens = lambda: self.service.silent_tokens
        await presence.announce()
        self._report.serving(presence.record())

    async def beat(self) -> None:
        """Show the node's pulse for ever."""
        counter = self._site.counter
        await beat(self.service, self._hosting.engine, self._report, counter.purse if counter is not None else None)

    async def survey(self) -> None:
        """Look around for ever."""
        await self.tenancy.surroundings.survey(self.presence)

    async def called_off(self) -> Ending:
        """Wait until other blocks need this node more, or it may serve no longer."""
        tenancy = self.tenancy
        async with racing(self._move(), self._renewal.run()) as (moving, lapsing):
            if lapsing.done():
                fault = lapsing.result()
                if fault.rule != "revoked":
                    self._report.note(f"{fault} This node serves nobody until it is admitted again.")
                return Ending.LAPSED
            tenancy.target, tenancy.left = moving.result(), self.presence.span
            return Ending.MOVING

    async def announce_draining(self) -> None:
        """Tell the grid that no new sessions are taken; best effort."""
        self.presence.state = "draining"
        with contextlib.suppress(GridError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.presence.announce()

    @property
    def grace_s(self) -> float:
        """How long sessions may go on when the node leaves."""
        return REVOKED_GRACE_S if self.tenancy.standing.revoked() else self.tenancy.wishes.grace_s

    async def close(self) -> None:
        """End the sessions that are left. The span stays in memory."""
        self._site.release(self._renewal)
        await self.service.stop()
        self.presence.silent_tokens = lambda: 0  # the presence outlives the stay, and must not hold its span

    def enrol(self) -> None:
        """Have the books know its certificate."""
        raw, counter = self.tenancy.standing.raw, self._site.counter
        if counter is not None and raw:
            counter.handing.enrol(raw)

    async def _show(self) -> None:
        self.presence.certificate = self.tenancy.standing.raw
        self.enrol()
        await self.presence.announce()

    async def _move(self) -> BlockRange:
        """Wait until other blocks need this node more; returns them. Never returns when the blocks are fixed."""
        tenancy = self.tenancy

        def stays() -> bool:
            busy = bool(self._site.switchboard.taken)  # with sessions, be they of another model of this node
            return tenancy.wishes.blocks is not None or tenancy.settled or self.outgoing or busy

        target = await tenancy.surroundings.needed_elsewhere(self.presence, tenancy.entry.blocks, stays)
        self._report.note(f"Blocks {target[0]}:{target[1]} need this node more; moving there.")
        return target
