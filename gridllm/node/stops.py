"""Why a node stops what it does: its volunteer asks, its swarm is lost, it is needed elsewhere, it is not admitted."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gridllm.swarm.interface import Swarm
from gridllm.tasks import racing

T = TypeVar("T")


class Ending(enum.Enum):
    """Why a stretch of serving ended."""

    STOPPED = enum.auto()  # the volunteer asked for it
    LOST = enum.auto()  # the swarm failed
    MOVING = enum.auto()  # other blocks need this node more
    LAPSED = enum.auto()  # it is admitted no longer, and may be again
    MAKING_WAY = enum.auto()  # another model is to be served, and there is no room for both


@dataclass(frozen=True, slots=True)
class Stops:
    """What the volunteer asks for with Ctrl-C."""

    stop: asyncio.Event  # once: drain, then leave
    hurry: asyncio.Event  # twice: leave now


async def until_stopped(
    work: Awaitable[T], stop: asyncio.Event, swarm: Swarm | None, note: Callable[[str], None]
) -> T | Ending:
    """The result of ``work``, unless the volunteer stops or the swarm fails first; then it is cancelled."""
    lost = swarm.failed() if swarm is not None else asyncio.get_running_loop().create_future()
    async with racing(work, stop.wait(), lost) as (working, stopping, failing):
        if stopping.done():
            return Ending.STOPPED
        if failing.done():
            note(str(failing.result()))
            return Ending.LOST
        return working.result()
