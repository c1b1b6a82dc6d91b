"""A serving volunteer's life: enter the grid, host a span, serve it, move where it is needed more, drain, leave.

What is held outlives what is lost: the span stays in memory when the libp2p daemon dies and a new one is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gridllm.charter.gossip import gossiping
from gridllm.charter.news import hear_news
from gridllm.errors import GridError, SwarmError
from gridllm.ledger.statements import account_of
from gridllm.node.counter.counter import counter_in
from gridllm.node.enrolment import Membership
from gridllm.node.presence import Presence
from gridllm.node.report import Report
from gridllm.node.site import Site
from gridllm.node.standing import spell_duration
from gridllm.node.stay import Stay
from gridllm.node.stops import Ending, Stops, until_stopped
from gridllm.node.succession.following import Following
from gridllm.node.succession.succession import LAST_SESSIONS_S, Succession
from gridllm.node.surroundings import Surroundings
from gridllm.node.tenancy import Tenancy, host_all, let_go_but, still_good
from gridllm.node.wishes import Wishes
from gridllm.quantities import spell_earnings
from gridllm.swarm.interface import Swarm
from gridllm.tasks import racing

T = TypeVar("T")

RESTARTS: Final = 6  # in a row, of a swarm that keeps failing
FIRST_BACKOFF_S: Final = 1.0
STEADY_S: Final = 60.0  # a swarm that lived this long starts the count anew
ADMISSION_S: Final = 900.0  # for a model that is to follow another: then the node goes back to that one


class Volunteer:
    """Runs a node from start to end: ``await Volunteer(…).run()``."""

    def __init__(
        self,
        membership: Membership,
        wishes: Wishes,
        open_swarm: Callable[[], Awaitable[Swarm]],
        report: Report,
        stops: Stops,
        following: Following | None = None,
    ) -> None:
        """
        Args:
            following: goes over to each new champion; None: serves the one model for ever.
        """
        self._us = membership
        self._open_swarm = open_swarm
        self._report = report
        self._stops = stops
        self._following = following
        self._surroundings = Surroundings(membership.signed, membership.pins)
        self._tenancies = [Tenancy(membership, wishes, self._surroundings)]  # the current one last
        self._chosen = following is None
        self._heir: Tenancy | None = None  # for whom it makes way
        self._fallback: Tenancy | None = None  # what it goes back to, when the one it made way for cannot be served

    @property
    def _current(self) -> Tenancy:
        return self._tenancies[-1]

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
                    if self._current.hosting is None and not self._current.lapsed and self._fallback is None:
                        raise  # it never worked: for the volunteer to mend
                    self._report.note(str(error))
                    ending = Ending.LOST
                except (GridError, TimeoutError) as error:
                    fallback = self._fallback or still_good(self._tenancies)
                    if self._following is None or fallback is None:
                        raise
                    await self._fall_back(self._following, fallback, error)
                    continue
                if ending is Ending.STOPPED:
                    return
                if ending in (Ending.MOVING, Ending.LAPSED, Ending.MAKING_WAY):
                    await self._come_back(ending)
                    continue
                failures = 1 if time.monotonic() - entered_at > STEADY_S else failures + 1
                if failures > RESTARTS and not self._current.lapsed:
                    raise SwarmError(
                        f"The connection to the grid failed {failures} times in a row; look at the messages above, "
                        "then run gridllm serve again."
                    )
                pause_s = FIRST_BACKOFF_S * 2 ** min(failures - 1, RESTARTS) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
                self._report.note(f"Lost the connection to the grid; rejoining in {pause_s:.1f} s.")
                if await self._or_stop(asyncio.sleep(pause_s)) is Ending.STOPPED:
                    return
        finally:
            await let_go_but(None, self._tenancies)

    async def _in_swarm(self) -> Ending:
        """One swarm's time, until it fails or the volunteer stops. Raises what cannot be mended by a new swarm."""
        self._report.phase(f"Entering {self._us.signed.charter.name}")
        async with contextlib.AsyncExitStack() as leaving:
            site = await self._or_stop(self._enter(leaving))
            if isinstance(site, Ending):
                return site
            hosted = await self._or_stop(self._host(site), site.swarm)
            if isinstance(hosted, Ending):
                return hosted
            ending = await self._serve(site, hosted)
            # What comes next enters afresh: handlers cannot be taken back from a swarm.
            for presence in site.presences:
                presence.returning = ending in (Ending.LOST, Ending.MOVING)
            return ending

    async def _enter(self, leaving: contextlib.AsyncExitStack) -> Site:
        swarm = await self._open_swarm()
        leaving.push_async_callback(swarm.close)
        board = self._us.standing.gate.board
        await leaving.enter_async_context(gossiping(swarm, board, self._surroundings.acquaintances))
        site = Site(swarm, self._us)
        leaving.push_async_callback(site.farewell)
        return site

    async def _host(self, site: Site) -> list[tuple[Tenancy, Presence]] | Ending:
        """Have the models' spans: still in memory, or loaded now. Who waits to be admitted again does so for the
        champion: the grid may not serve the old one any more, and then nobody would ever measure it."""
        await self._choose(site)
        patience_s = None if self._fallback is None else ADMISSION_S
        hosting: Awaitable[list[tuple[Tenancy, Presence]] | Tenancy]
        hosting = host_all(self._tenancies, site, self._report, patience_s)
        if self._current.lapsed and self._following is not None:
            hosting = self._following.unless_overtaken(hosting, self._current.entry, self._surroundings)
        if isinstance(hosted := await hosting, Tenancy):
            self._heir = hosted
            return Ending.MAKING_WAY
        if self._fallback is not None and self._following is not None:
            self._following.settled(self._current.entry)
        self._fallback = None
        return hosted

    async def _choose(self, site: Site) -> None:
        """Before anything is loaded for the first time: whether another model is the champion by now."""
        following, current = self._following, self._current
        if self._chosen or following is None:
            return
        self._chosen = True
        await hear_news(site.swarm, self._us.standing.gate.board, self._surroundings.acquaintances())
        if not following.crowned:
            self._report.note(f"The leaderboard has no champion yet; {following.entry.name} is served until then.")
        if following.entry.root != current.entry.root:
            self._tenancies = [Tenancy(*following.settle(following.entry), self._surroundings)]

    async def _serve(self, site: Site, hosted: list[tuple[Tenancy, Presence]]) -> Ending:
        """Serve until stopped, lost or needed elsewhere; drains unless the swarm is lost."""
        us, raw = self._us, self._current.standing.raw
        path, board = us.pins.purse_path(us.signed, account_of(site.swarm.peer)), us.standing.gate.board
        async with counter_in(site.swarm, us.signed, us.identity, path, raw, board) as counter:
            site.counter = counter
            stays = [Stay(site, tenancy, presence, self._report) for tenancy, presence in hosted]
            try:
                ending = await self._serve_all(site, stays)
            finally:
                for stay in stays:
                    await stay.close()
                self._tenancies = [stay.tenancy for stay in stays]
        if counter is not None:
            earned, waiting = counter.purse.earnings
            self._report.note(f"This node {spell_earnings(earned, waiting)}.")
        self._current.lapsed = ending is Ending.LAPSED
        if (revoked := self._current.standing.revoked()) is not None and ending is Ending.LAPSED:
            raise revoked
        return ending

    async def _serve_all(self, site: Site, stays: list[Stay]) -> Ending:
        for number in range(len(stays)):  # by number: nothing here may hold a stay that goes
            await stays[number].open()
        async with asyncio.TaskGroup() as tasks:
            succession = Succession(site, stays, self._following, self._report, tasks)
            ending = await self._or_stop(succession.run(), site.swarm)
            if ending is Ending.MAKING_WAY:
                self._heir = succession.heir
                drained = await self._or_stop(self._drain(stays, LAST_SESSIONS_S), site.swarm)
                ending = drained if isinstance(drained, Ending) else ending
            if ending not in (Ending.LOST, Ending.MAKING_WAY):
                await self._drain(stays, stays[-1].grace_s)
            succession.rest()
        return ending

    async def _drain(self, stays: list[Stay], grace_s: float) -> None:
        stays = list(stays)  # one of two may go meanwhile
        for stay in stays:
            await stay.announce_draining()
        if sessions := sum(stay.service.sessions for stay in stays):
            self._report.phase(f"Draining: {sessions} sessions may go on for {grace_s:g} s; Ctrl-C leaves now")
        # They share their links: one farewell is for all.
        draining = [
            asyncio.create_task(stay.service.drain(grace_s, quietly=number > 0)) for number, stay in enumerate(stays)
        ]
        async with racing(asyncio.gather(*draining), self._stops.hurry.wait()):
            pass  # what is not drained by then ends all the same

    async def _or_stop(self, work: Awaitable[T], swarm: Swarm | None = None) -> T | Ending:
        return await until_stopped(work, self._stops.stop, swarm, self._report.note)

    async def _come_back(self, ending: Ending) -> None:
        """Free the spans, and choose what is served next. An examination fills the memory that they took."""
        if ending is Ending.MOVING:
            await self._current.let_go()  # a model that is served beside stays as it is
            return
        old, fault = still_good(self._tenancies), self._current.standing.fault()
        if ending is Ending.LAPSED and self._following is not None and old is not None and fault is not None:
            await self._fall_back(self._following, old, fault)
            return
        await let_go_but(None, self._tenancies)
        self._tenancies = self._tenancies[-1:]
        if ending is Ending.MAKING_WAY and self._heir is not None:
            self._fallback, self._tenancies, self._heir = self._current, [self._heir], None

    async def _fall_back(self, following: Following, fallback: Tenancy, error: Exception) -> None:
        """To the model that was served before."""
        entry = self._current.entry
        why = str(error).rstrip(".") or f"not admitted within {spell_duration(ADMISSION_S)}"
        pause_s = following.put_off(entry)
        self._report.note(
            f"{entry.name} cannot be served here: {why}. Going back to {fallback.entry.name}; trying again in "
            f"{spell_duration(pause_s)}."
        )
        await let_go_but(fallback, self._tenancies)
        self._tenancies, self._fallback = [fallback], None
