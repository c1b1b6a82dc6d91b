"""A node's going over from one model to another while it serves: the new one stands before the old one goes.

Where memory holds both, the new span is loaded beside the old one and both are served, until the whole chain of the
new model stands and clients had time to hear of it. Then the old one takes no new sessions, and goes when its last one
ends. Where it does not, the node makes way: see ``making_way``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Final

from gridllm.charter.document import ModelEntry
from gridllm.errors import GridError
from gridllm.node.following import Following
from gridllm.node.making_way import until_room_is_free
from gridllm.node.report import Aside, Report
from gridllm.node.site import Site
from gridllm.node.standing import spell_duration
from gridllm.node.stay import Stay
from gridllm.node.stops import Ending
from gridllm.node.tenancy import Tenancy
from gridllm.planning.succession import stands

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between looks at whether the new model's chain stands
QUIET_S: Final = 120.0  # others' sessions put the measuring off for so long
LAST_SESSIONS_S: Final = 3600.0  # a session of the old model may go on for so long


class Succession:
    """The models served in one swarm: one, or an old one and its successor."""

    def __init__(
        self,
        site: Site,
        stays: list[Stay],
        following: Following | None,
        report: Report,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """
        Args:
            stays: open; the current one last. Kept up to date.
            following: None: the model stays the same.
            tasks: where everything runs that goes on beside; ``rest`` ends it.
        """
        self.heir: Tenancy | None = None
        """Whom ``Ending.MAKING_WAY`` is for."""
        self._site = site
        self._stays = stays
        self._following = following
        self._report = report
        self._tasks = tasks
        self._background: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._surveys: dict[Stay, asyncio.Task[None]] = {}
        self._alone = asyncio.Event()  # no old model is left

    async def run(self) -> Ending:
        """Serve until the current model's stay is called off, or it must make way for another."""
        self._settle_in()
        if len(self._stays) == 1:
            self._alone.set()
        for old in self._stays[:-1]:
            self._begin(self._retire(old))
        while True:
            current = self._stays[-1]
            ending = asyncio.create_task(current.called_off())
            coming = asyncio.create_task(self._successor(current))
            try:
                await asyncio.wait((ending, coming), return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    return ending.result()
                successor = coming.result()
            finally:
                for task in (ending, coming):
                    task.cancel()
                await asyncio.gather(ending, coming, return_exceptions=True)
            if successor is None:
                return Ending.MAKING_WAY
            self._hand_over(current, successor)

    def rest(self) -> None:
        """End what runs beside."""
        for task in list(self._background):
            task.cancel()

    def _settle_in(self) -> None:
        """Show the current stay's pulse, and look around for it."""
        if self._beating is not None:
            self._beating.cancel()
        self._beating = self._begin(self._stays[-1].beat())
        self._surveys[self._stays[-1]] = self._begin(self._stays[-1].survey())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)  # what is done holds whatever it worked on
        return task

    async def _successor(self, current: Stay) -> Stay | None:
        """Wait for a new champion → its stay, open; None: it needs the room that ``current`` takes."""
        if self._following is None:
            await asyncio.Event().wait()
            return None
        while True:
            await self._alone.wait()
            entry = await self._following.next_after(current.tenancy.entry)
            current.outgoing = True
            making = asyncio.create_task(self._make(entry, current))
            overtaken = asyncio.create_task(self._following.next_after(entry))  # by another champion, or the old one
            try:
                await asyncio.wait((making, overtaken), return_when=asyncio.FIRST_COMPLETED)
                if making.done():
                    return making.result()
            except GridError as error:
                self._put_off(self._following, entry, current, str(error))
            except Exception as error:
                log.exception("Getting ready to serve %s failed", entry.name)
                self._put_off(self._following, entry, current, f"{type(error).__name__}: {error}")
            finally:
                for task in (making, overtaken):
                    task.cancel()
                await asyncio.gather(making, overtaken, return_exceptions=True)

    def _put_off(self, following: Following, entry: ModelEntry, current: Stay, why: str) -> None:
        current.outgoing = False
        pause_s = following.put_off(entry)
        self._report.note(
            f"{entry.name} cannot be served here yet: {why.rstrip('.')}. This node goes on serving {current.name}, and "
            f"tries again in {spell_duration(pause_s)}."
        )

    async def _make(self, entry: ModelEntry, current: Stay) -> Stay | None:
        """Raises GridError: it cannot be served now; nothing of it is left."""
        following = self._following
        if following is None:
            return None
        self._report.note(f"{entry.name} is to be served now. This node serves {current.name} until it is ready.")
        tenancy = Tenancy(*following.settle(entry), current.tenancy.surroundings)
        presence = self._site.presence(entry, tenancy.wishes.dtype)
        async with contextlib.AsyncExitStack() as undoing:
            undoing.push_async_callback(tenancy.let_go)
            undoing.push_async_callback(self._site.dismiss, presence)
            manifest = await tenancy.learn(self._site, presence)
            give_back = await tenancy.find_room(manifest, current.tenancy)
            if give_back is None:
                await until_room_is_free(self._site, tenancy, manifest, presence, current, Aside(self._report))
                self.heir = Tenancy(tenancy.membership, tenancy.wishes, tenancy.surroundings)
                return None
            undoing.callback(give_back)
            if tenancy.standing.required and not tenancy.standing.recall():
                await _quiet(current)
            await tenancy.host(self._site, presence, Aside(self._report))
            stay = Stay(self._site, tenancy, presence, self._report)
            undoing.push_async_callback(stay.close)
            await stay.open()
            undoing.pop_all()
            following.settled(entry)
            return stay

    def _hand_over(self, old: Stay, new: Stay) -> None:
        """From here on the new one is the node's; the old one is served until it is needed no more."""
        old.outgoing = True
        self._alone.clear()
        self._stays.append(new)
        new.enrol()
        self._settle_in()
        self._begin(self._retire(old))

    async def _retire(self, old: Stay) -> None:
        """Serve the old model until its successor's chain stands, let its sessions end, and free its span."""
        old.outgoing = True
        new, name = self._stays[-1], old.name
        await self._until_unused(old, new)
        if (survey := self._surveys.pop(old, None)) is not None:
            survey.cancel()
        await old.close()
        await self._site.dismiss(old.presence)
        self._stays.remove(old)
        await old.tenancy.let_go()
        del old, survey  # the span's memory goes with the last that holds it
        await new.tenancy.take_all()
        self._report.note(f"{name} is served here no longer.")
        self._alone.set()

    async def _until_unused(self, old: Stay, new: Stay) -> None:
        """Until no session is left of the old model, and no new one is taken."""
        beside: list[asyncio.Task[Any]] = [
            lapsing := asyncio.create_task(old.called_off()),
            waiting := asyncio.create_task(self._until_the_chain_stands(new, old.grace_s)),
        ]
        try:
            await asyncio.wait((lapsing, waiting), return_when=asyncio.FIRST_COMPLETED)
            await old.announce_draining()
            self._report.note(f"{old.name} takes no new sessions here; {old.service.sessions} may go on to their end.")
            patience_s = old.grace_s if lapsing.done() else LAST_SESSIONS_S
            drained = asyncio.create_task(old.service.drain(patience_s, quietly=True))
            beside.append(drained)
            await asyncio.wait(
                (drained,) if lapsing.done() else (drained, lapsing), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _until_the_chain_stands(self, new: Stay, patience_s: float) -> None:
        """And has stood for so long: clients hear of the new champion by and by, and their parts of it take loading."""
        loop = asyncio.get_running_loop()
        since: float | None = None
        while since is None or loop.time() - since < patience_s:
            await asyncio.sleep(LOOK_S)
            try:
                records = [*await new.presence.others(), new.presence.record()]
            except GridError as error:
                log.info("Could not look who serves %s: %s", new.name, error)
                continue
            if not stands(records, new.tenancy.entry.blocks):
                since = None
            elif since is None:
                since = loop.time()


async def _quiet(current: Stay) -> None:
    """Wait a while for a moment without sessions: being measured takes from their tokens, and they from the figures."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            while current.service.sessions:  # noqa: ASYNC110 - sessions are plain data
                await asyncio.sleep(LOOK_S)
