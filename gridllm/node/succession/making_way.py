"""A node whose memory does not hold two models gives the old one up first: when the grid can best do without it.

That is when others serve its blocks, each node in its turn; or when nobody has used it for a while. Where every node is
needed and busy, it takes no new sessions after ``PATIENCE_S`` all the same: then the grid cannot go over without a time
in which new sessions find neither model. Sessions that are open end in peace.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from gridllm.errors import GridError
from gridllm.models.manifest import Manifest
from gridllm.node.hosting import expected_span
from gridllm.node.presence import Presence
from gridllm.node.report import Report
from gridllm.node.site import Site
from gridllm.node.source import Source
from gridllm.node.stay import Stay
from gridllm.node.tenancy import Tenancy
from gridllm.planning.succession import may_make_way

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
TURN_S: Final = 20.0  # of several nodes that could go, another one's turn comes this often
QUIET_S: Final = 10.0  # without a session: nobody uses the model just now
PATIENCE_S: Final = 600.0  # for a moment at which it costs nobody anything


async def until_room_is_free(
    site: Site, heir: Tenancy, manifest: Manifest, presence: Presence, current: Stay, report: Report
) -> None:
    """Get the heir's files here, then wait until the current stay may make way for it.

    Raises:
        ModelError: the files are not to be had: nothing is given up for them.
        UsageError: it would not fit into the memory of both, either.
        SwarmError: the grid does not answer.
    """
    report.note(f"This machine's memory does not hold {current.name} and {heir.entry.name} at once.")
    span = await expected_span(heir.entry, manifest, heir.wishes, presence, current.tenancy.hosting)
    if heir.wishes.folder is None:
        report.phase(f"Getting the files of blocks {span[0]}:{span[1]} of {heir.entry.name}")
        wishes = heir.wishes
        source = Source(
            site.swarm, heir.entry, manifest, presence.seeds, wishes.cache_dir, report.loading, wishes.borrowing
        )
        await source.folder(span)
    report.note(f"{heir.entry.name} is ready to be loaded, as soon as the grid can do without {current.name} here.")
    loop = asyncio.get_running_loop()
    used_at, give_up_at = loop.time(), loop.time() + PATIENCE_S
    while loop.time() < give_up_at:
        used_at = loop.time() if current.service.sessions else used_at
        if loop.time() - used_at > QUIET_S or await _spared(current):
            return
        await asyncio.sleep(LOOK_S)


async def _spared(current: Stay) -> bool:
    try:
        others = await current.presence.others()
    except GridError as error:
        log.info("Could not look who serves %s: %s", current.name, error)
        return False
    turn = int(time.time() / TURN_S)
    return may_make_way(others, current.presence.record(), current.tenancy.entry.blocks, turn)
