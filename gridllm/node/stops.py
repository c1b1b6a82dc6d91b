"""Why a node stops what it does: its volunteer asks, its swarm is lost, it is needed elsewhere, it is not admitted."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gridllm.swarm.interface import Swarm

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
    task = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    racers: set[asyncio.Future[object]] = {task, stopping}  # type: ignore[arg-type]
    failing = None
    if swarm is not None:
        failing = asyncio.create_task(swarm.failed())
        racers.add(failing)  # type: ignore[arg-type]
    try:
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return Ending.STOPPED
        if failing is not None and failing.done():
            note(str(failing.result()))
            return Ending.LOST
        return task.result()
    finally:
        for racer in racers:
            racer.cancel()
        await asyncio.gather(*racers, return_exceptions=True)
