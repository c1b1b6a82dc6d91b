"""What a node looks at before it goes on in its going over from one model to another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from gridllm.errors import GridError
from gridllm.node.stay import Stay
from gridllm.planning.succession import stands

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
QUIET_S: Final = 120.0  # others' sessions put the measuring off for so long


async def is_whole(stay: Stay) -> bool | None:
    """Whether nodes, this one among them, serve every block of its model; None: the grid does not say."""
    try:
        records = [*await stay.presence.others(), stay.presence.record()]
    except GridError as error:
        log.info("Could not look who serves %s: %s", stay.name, error)
        return None
    return stands(records, stay.tenancy.entry.blocks)


async def until_quiet(current: Stay) -> None:
    """Wait a while for a moment without sessions: being measured takes from their tokens, and they from the figures."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            while current.service.sessions:  # noqa: ASYNC110 - sessions are plain data
                await asyncio.sleep(LOOK_S)
