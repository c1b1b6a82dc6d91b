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
from gridllm.errors import AdmissionError, GridError
from gridllm.node.report import Aside, Report
from gridllm.node.site import Site
from gridllm.node.standing import spell_duration
from gridllm.node.stay import Stay
from gridllm.node.stops import Ending
from gridllm.node.succession.following import Following
from gridllm.node.succession.making_way import until_room_is_free
from gridllm.node.succession.waiting import is_whole, until_quiet
from gridllm.node.tenancy import Tenancy
from gridllm.tasks import end, racing

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between looks at whether the new model's chain stands
ADMISSION_S: Final = 900.0  # for the new model, beside the old one
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
        self._retiring: asyncio.Task[None] | None = None  # of the old one
        self._whole: bool | None = None  # nodes serve all of the new one, as was seen last

    async def run(self) -> Ending:
        """Serve until the current model's stay is called off, or it must make way for another."""
        self._settle_in()
        if len(self._stays) == 1:
            self._alone.set()
        for old in self._stays[:-1]:
            self._retiring = self._begin(self._retire(old))
        while True:
            current = self._stays[-1]
            follows = await self._what_follows(current)
            if isinstance(follows, Ending):
                return follows
            self._hand_over(current, follows)

    def rest(self) -> None:
        """End what runs beside."""
        for task in list(self._background):
            task.cancel()

    async def _what_follows(self, current: Stay) -> Stay | Ending:
        """Its successor, open; or why it ends without one. Of its own, so that no task's frames hold a model's span."""
        async with racing(current.called_off(), self._successor(current)) as (ending, coming):
            if coming.done():
                return coming.result() or Ending.MAKING_WAY
            return ending.result()

    def _settle_in(self) -> None:
        """Show the current stay's pulse, and look around for it."""
        if self._beating is not None:
            self._beating.cancel()
        self._beating = self._begin(self._stays[-1].beat())
        if self._stays[-1] not in self._surveys:
            self._surveys[self._stays[-1]] = self._begin(self._stays[-1].survey())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)  # what is done holds whatever it worked on
        return task

    async def _successor(self, current: Stay) -> Stay | None:
        """Wait for a new champion → its stay, open; None: it needs the room that ``current`` takes. See ``_recalled``,
        too."""
        following = self._following
        while following is None:
            await asyncio.Event().wait()
        while True:
            current.outgoing = False
            if (former := await self._recalled(following, current)) is not None:
                return former
            entry = await following.next_after(current.tenancy.entry)
            current.outgoing = True
            try:
                overtaken = following.next_after(entry)  # by another champion, or the old one
                async with racing(self._make(following, entry, current), overtaken) as (making, _):
                    if making.done():
                        return making.result()
            except GridError as error:
                self._put_off(following, entry, current, str(error))
            except Exception as error:
                log.exception("Getting ready to serve %s failed", entry.name)
                self._put_off(following, entry, current, f"{type(error).__name__}: {error}")

    async def _recalled(self, following: Following, current: Stay) -> Stay | None:
        """Wait until ``current`` is served alone; or until another model is the champion before nodes served all of it:
        then it is the old one, which the grid has still. Waiting for the rest of the chain could take for ever.
        """
        while not self._alone.is_set():
            if (old := self._recall(following, current)) is not None:
                return old
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._alone.wait()
        return None

    def _recall(self, following: Following, current: Stay) -> Stay | None:
        """The old stay, which is retired no longer; None: ``current`` is wanted, or whole, or the old one goes."""
        overtaken = following.entry.root != current.tenancy.entry.root and self._whole is False
        old = self._stays[0]
        if not overtaken or self._retiring is None or old is current or old.presence.state != "serving":
            return None
        self._retiring.cancel()
        return old

    def _put_off(self, following: Following, entry: ModelEntry, current: Stay, why: str) -> None:
        current.outgoing = False
        pause_s = following.put_off(entry)
        self._report.note(
            f"{entry.name} cannot be served here yet: {why.rstrip('.')}. This node goes on serving {current.name}, and "
            f"tries again in {spell_duration(pause_s)}."
        )

    async def _make(self, following: Following, entry: ModelEntry, current: Stay) -> Stay | None:
        """Raises GridError: it cannot be served now; nothing of it is left."""
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
                await until_quiet(current)
            try:
                await tenancy.host(self._site, presence, Aside(self._report), patience_s=ADMISSION_S)
            except TimeoutError:  # until the next try the old caches have their room, and the node may move
                raise AdmissionError(f"it was not admitted within {spell_duration(ADMISSION_S)}") from None
            stay = Stay(self._site, tenancy, presence, self._report)
            undoing.push_async_callback(stay.close)
            await stay.open()
            undoing.pop_all()
            self._stays.append(stay)  # whatever ends this now, it is not forgotten
            following.settled(entry)
            return stay

    def _hand_over(self, old: Stay, new: Stay) -> None:
        """From here on the new one is the node's; the old one is served until it is needed no more."""
        recalled = self._stays[-1] is not new
        old.outgoing, new.outgoing = True, False
        self._alone.clear()
        self._whole = None
        self._stays.sort(key=lambda stay: stay is new)  # the current one last
        new.enrol()
        self._settle_in()
        self._retiring = self._begin(self._retire(old, at_once=recalled))

    async def _retire(self, old: Stay, *, at_once: bool = False) -> None:
        """Serve the old model until its successor's chain stands (or not), let its sessions end, and free its span."""
        old.outgoing = True
        new, name = self._stays[-1], old.name
        await self._until_unused(old, new, at_once=at_once)
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

    async def _until_replaced(self, new: Stay, patience_s: float) -> None:
        """Until nodes have served all of it for so long: clients hear of it by and by, and must load their parts."""
        loop = asyncio.get_running_loop()
        since: float | None = None
        while since is None or loop.time() - since < patience_s:
            await asyncio.sleep(LOOK_S)
            whole = await is_whole(new)
            if whole is None:
                continue
            self._whole, since = whole, (since or loop.time()) if whole else None

    async def _until_unused(self, old: Stay, new: Stay, *, at_once: bool) -> None:
        """Until no session is left of the old model, and no new one is taken."""
        beside: list[asyncio.Task[Any]] = [
            lapsing := asyncio.create_task(old.called_off()),
            waiting := asyncio.create_task(self._until_replaced(new, old.grace_s)),
        ]
        try:
            if not at_once:
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
            await end(*beside)
