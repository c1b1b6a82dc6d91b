"""``@champion``: whichever model leads the leaderboard, without a generation failing when that changes.

A change of champion reaches the client by gossip, the client's own loading takes a while, and nodes move to the new
model in their own time. So each new generation looks who is champion, and takes the model that can serve it: the new
one once it is loaded here and a whole chain of nodes serves it, until then the one before. Where nodes of neither are
to be had, because they are on their way from the one to the other, it waits. What has begun ends on the model it began
with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from gridllm.charter.catalogue import CHAMPION, Catalogue
from gridllm.charter.document import ModelEntry
from gridllm.errors import GridError, ModelError, RouteError
from gridllm_client.loaded import Choice, Loaded
from gridllm_client.terms import ChainEvent, OnEvent

log = logging.getLogger(__name__)

MOVE_S: Final = 120.0  # for nodes to come from the champion before to the new one, when there are none of either
LOOK_S: Final = 2.0  # between looks whether a whole chain serves the new champion
LOOKS: Final = 450  # a quarter of an hour; then the next generation begins again
RETRY_S: Final = 30.0  # after the new champion could not be loaded
REST_S: Final = 5.0  # after nodes did not take a generation of it, while there is the one that stands


Load = Callable[[ModelEntry], Awaitable[Loaded]]
"""Loads a model's ends on this machine; raises GridError."""
Hear = Callable[[], Awaitable[object]]
"""Asks others for the maintainers' notices."""


class Reign:
    """Who is champion, as far as this client can use it. Lives on the grid's loop."""

    def __init__(self, catalogue: Catalogue, standing: Loaded, load: Load, hear: Hear) -> None:
        """``standing``: what is used for now."""
        self.now = standing
        self._catalogue = catalogue
        self._load = load
        self._hear = hear
        self._heir: Loaded | None = None  # the new champion, once it is loaded and a chain serves it
        self._offered_from = 0.0  # time.monotonic() from which a generation tries the heir before the one that stands
        self._spare: Loaded | None = None  # the champion before, where that had to be tried
        self._preparing: asyncio.Task[None] | None = None
        self._prepared_root = ""  # what it is, or was, at
        self._again_at = 0.0  # time.monotonic()

    @staticmethod
    async def begin(catalogue: Catalogue, load: Load, hear: Hear) -> Reign:
        """With the champion of now; with the one before where this one cannot be loaded here.

        Raises:
            CharterError: the grid has no champion.
            ModelError: it cannot be loaded.
        """
        entry = catalogue.model(CHAMPION)
        try:
            return Reign(catalogue, await load(entry), load, hear)
        except ModelError as error:
            former = catalogue.former
            if former is None or former.root == entry.root:
                raise
            log.warning("The champion %s cannot be used here: %s", entry.name, error)
            return Reign(catalogue, await load(former), load, hear)

    @property
    def heir(self) -> ModelEntry | None:
        """The champion, where it is not the model that stands; None: it is, or nobody knows of one."""
        champion = self._catalogue.champion
        return None if champion is None or champion.root == self.now.terms.model else champion

    async def choices(self, wait_s: float, tell: OnEvent) -> AsyncGenerator[Choice, None]:
        """The new champion if it is ready, else the one that stands; and when nobody serves that any more, whatever
        the grid is moving to.
        """
        self._look()
        if self._heir is not None and time.monotonic() >= self._offered_from:
            yield Choice(self._heir, 0.0)
            self._offered_from = time.monotonic() + REST_S  # nodes did not take it: trying costs seconds
        stood = self.now
        yield Choice(stood, 0.0)
        await self._hear()  # nodes may know of a new champion before this client does
        async for loaded in self._coming(stood, max(wait_s, MOVE_S), tell):
            yield Choice(loaded, 0.0)
        former = await self._former()
        if former is not None:
            yield Choice(former, 0.0)
        if wait_s:
            yield Choice(self.now, wait_s)

    def took(self, loaded: Loaded) -> None:
        """From now on that one stands, unless it stood before: what was opened slowly turns nothing back."""
        if loaded not in (self._heir, self._spare):
            return
        log.info("@champion is now %s; it was %s", loaded.name, self.now.name)
        self.now, self._heir, self._spare = loaded, None, None

    async def _coming(self, stood: Loaded, patience_s: float, tell: OnEvent) -> AsyncGenerator[Loaded, None]:
        """What comes after the one that stood, as soon as it is ready; again and again while nodes do not take it."""
        until, told = time.monotonic() + patience_s, False
        while time.monotonic() < until:
            self._look()
            if self._heir is not None:
                yield self._heir
            elif self.now is not stood:  # another generation came first
                yield self.now
            elif (heir := self.heir) is None:
                return
            elif not told:
                told = True
                what = f"waiting for nodes to switch from {stood.name} to the new champion {heir.name}"
                tell(ChainEvent("waiting", what))
            await asyncio.sleep(min(LOOK_S / 4, patience_s))

    async def _former(self) -> Loaded | None:
        """The champion before, for a client that entered while nodes had not moved yet."""
        former = self._catalogue.former
        if former is None or former.root == self.now.terms.model:
            return None
        try:
            self._spare = await self._load(former)
        except GridError as error:
            log.info("The previous champion cannot be used: %s", error)
            return None
        return self._spare

    def _look(self) -> None:
        """See who is champion, and begin to get ready for a new one."""
        entry = self.heir
        root = "" if entry is None else entry.root
        if self._heir is not None and self._heir.terms.model != root:
            self._heir = None
        if self._preparing is not None and self._prepared_root != root:
            self._preparing.cancel()
            self._preparing = None
        if entry is None or self._heir is not None or self._preparing is not None:
            return
        if root == self._prepared_root and time.monotonic() < self._again_at:
            return
        self._prepared_root = root
        self._preparing = asyncio.create_task(self._prepare(entry))

    async def _prepare(self, entry: ModelEntry) -> None:
        """Load it, and wait until a whole chain of nodes serves it."""
        try:
            loaded = await self._load(entry)
            for _ in range(LOOKS):
                if await _stands(loaded):
                    self._heir = loaded
                    return
                await asyncio.sleep(LOOK_S)
        except GridError as error:
            log.warning("The new champion %s cannot be used yet: %s", entry.name, error)
            self._again_at = time.monotonic() + RETRY_S
        except Exception:  # whatever a stranger's model does, generations go on with the one that stands
            log.exception("The new champion %s could not be loaded", entry.name)
            self._again_at = time.monotonic() + RETRY_S
        finally:
            if self._preparing is asyncio.current_task():
                self._preparing = None


async def _stands(loaded: Loaded) -> bool:
    """Whether nodes serve all its blocks."""
    try:
        await loaded.routes.plan(0, loaded.terms.blocks, desperate=False)
    except RouteError:
        return False
    except GridError as error:
        log.info("Nodes of %s were not looked up: %s", loaded.name, error)
        return False
    return True
