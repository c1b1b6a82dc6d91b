"""What ends an examination under way: the swarm, or the volunteer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gridllm.cli.candidate import _while_connected
from gridllm.errors import SwarmError


class Failing:
    """A swarm that is lost at once."""

    async def failed(self) -> SwarmError:
        return SwarmError("The daemon died.")


async def lingers() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.2)


async def test_a_lost_swarm_is_named() -> None:
    swarm: Any = Failing()
    with pytest.raises(SwarmError, match="daemon died"):
        await _while_connected(swarm, lingers())


async def test_ctrl_c_counts_while_the_work_is_put_away() -> None:
    swarm: Any = Failing()
    waiting = asyncio.create_task(_while_connected(swarm, lingers()))
    await asyncio.sleep(0.1)  # the swarm failed, and the work is being put away
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
