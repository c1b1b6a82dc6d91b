"""Continued fitness of one authority: reports come in, suspects are measured again, consequences drawn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import SignedCharter
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.directory import Directory
from gridllm.swarm.interface import Swarm
from gridllm.tasks import end
from gridllm_bootstrap.fitness.fitness import Fitness
from gridllm_bootstrap.fitness.outcomes import FitnessEvent
from gridllm_bootstrap.fitness.rechecks import Rechecks
from gridllm_bootstrap.fitness.reports import SPACING_S, DirectoryRoster, SpeedReports

log = logging.getLogger(__name__)


@asynccontextmanager
async def continued_fitness(
    swarm: Swarm,
    signed: SignedCharter,
    maintainer: Identity,
    board: NoticeBoard,
    *,
    tell: Callable[[FitnessEvent], None],
    present: Callable[[PeerId], bool],
    drafts: Path | None = None,
    fitness: Fitness | None = None,
    spacing_s: float = SPACING_S,
    **bounds: Any,
) -> AsyncIterator[Rechecks]:
    """Take reports and carry out what follows from them, for as long as the context lasts.

    The authority that measures gets ``strict``, ``certified`` and ``not_admitted`` of what is handed out.

    Args:
        present: whether a peer is being examined, or waits for it.
        drafts: folder for revocations that other maintainers must sign, too.
        bounds: of ``Rechecks``.
    """
    gate = Gatekeeper(signed, board)
    directory = Directory(swarm, signed.grid, gate.admit)
    roster = DirectoryRoster(directory, gate.check)
    rechecks = Rechecks(
        swarm,
        signed,
        maintainer,
        board,
        roster,
        tell=tell,
        present=present,
        addresses=lambda peer: directory.seen.get(peer, ()),
        drafts=drafts,
        **bounds,
    )
    catalogue = Catalogue(signed, board)

    def blocks(root: str) -> int | None:
        entry = catalogue.entry(root)
        return None if entry is None else entry.blocks

    reports = SpeedReports(
        signed,
        Fitness() if fitness is None else fitness,
        roster,
        rechecks.suspect,
        swarm.seen_at,
        spacing_s=spacing_s,
        blocks=blocks,
    )
    await reports.serve(swarm)
    carrying_out = asyncio.create_task(rechecks.run())
    carrying_out.add_done_callback(_log_failure)
    try:
        yield rechecks
    finally:
        await end(carrying_out)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Nodes that clients report as slow are no longer measured again: %s", error, exc_info=error)
