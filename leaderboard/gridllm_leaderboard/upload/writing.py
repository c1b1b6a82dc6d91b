"""Pieces of an upload on their way to the disk, in threads, while the next ones come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gridllm.errors import GridError, NotAccepted
from gridllm.models.cached import Item
from gridllm_leaderboard.vault.part import Part
from gridllm_leaderboard.vault.vault import Vault

BATCH_BYTES: Final = 4 * 1024 * 1024  # that wait for the disk before ``add`` waits, too
BATCH_PIECES: Final = 16  # likewise: of small tensors each is a part of its own, whose file is open until it is synced
FINISHING: Final = 4  # parts that are synced at once


@dataclass(slots=True, eq=False)
class Job:
    """One part on its way."""

    part: Part
    item: Item | None  # None: the manifest
    resumed: bool = False  # some of it came on another stream


class Writing:
    """Writes parts and finishes them. One thread writes at a time; what comes meanwhile waits for it, up to a bound."""

    def __init__(self, vault: Vault, root: str) -> None:
        self.spoilt: list[Job] = []
        """What was gone on with and is not what its digest says: to be brought from its first byte on."""
        self._vault = vault
        self._root = root
        self._open: list[Job] = []  # with an open file
        self._batch: list[tuple[Job, bytearray]] = []
        self._batch_bytes = 0
        self._writing: asyncio.Task[list[Job]] | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def start(self, job: Job) -> int:
        """Begin a part; returns the byte it goes on at. Raises as ``add``."""
        self._open.append(job)
        if job.resumed:
            try:
                await asyncio.to_thread(job.part.open)
            except OSError as error:
                raise await self._trouble([job], error) from error
        return job.part.offset

    async def add(self, job: Job, body: bytearray) -> None:
        """The next bytes of a part; the last make it be finished.

        Raises:
            NotAccepted: the disk is full, or a part is not what its digest says.
            NodeFault: the disk fails.
        """
        self._batch.append((job, body))
        self._batch_bytes += len(body)
        full = self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_PIECES
        if full or self._writing is None or self._writing.done():
            await self._turn()

    async def flush(self) -> None:
        """Until all is written and finished. Raises as ``add``."""
        await self._turn()
        await self._turn()
        if self._finishing:
            done, self._finishing = await asyncio.wait(self._finishing)
            for one in done:
                one.result()

    async def let_go(self) -> None:
        """Close all files, once nobody writes to them; what came stays."""
        tasks = [*self._finishing, *([self._writing] if self._writing is not None else [])]
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in self._open:
            await asyncio.to_thread(job.part.close)
        self._open.clear()

    async def _turn(self) -> None:
        """What waits is written once that before it is. A thread outlives the task that waits for it: see let_go."""
        complete = await asyncio.shield(self._writing) if self._writing is not None else []
        self._writing = None
        for job in complete:
            while len(self._finishing) >= FINISHING:
                done, self._finishing = await asyncio.wait(self._finishing, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
            self._finishing.add(asyncio.create_task(self._finish(job)))
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._writing = asyncio.create_task(self._write(batch))

    async def _write(self, batch: list[tuple[Job, bytearray]]) -> list[Job]:
        """Returns the jobs that are complete now."""

        def write() -> list[Job]:
            self._vault.room.check()
            for job, body in batch:
                job.part.add(body)
            self._vault.room.came(self._root, sum(len(body) for _, body in batch))
            return list({id(job): job for job, _ in batch if job.part.complete}.values())

        try:
            return await asyncio.to_thread(write)
        except OSError as error:
            raise await self._trouble([job for job, _ in batch], error) from error

    async def _finish(self, job: Job) -> None:
        """Keep what is complete, if it is what was announced."""

        def finish() -> bool:
            if job.item is None:
                return self._vault.finish_manifest(self._root, job.part)
            return self._vault.finish(job.part, job.item)

        try:
            good = await asyncio.to_thread(finish)
        except OSError as error:
            raise await self._trouble([job], error) from error
        self._open.remove(job)
        if good:
            return
        if not job.resumed:
            what = "the manifest" if job.item is None else job.item.name[:200]
            raise NotAccepted(
                f"What came as {what} is not what was announced: the model's files changed since they were read. Run "
                "the command again."
            )
        job.resumed = False  # spoilt in a power cut, perhaps
        self.spoilt.append(job)

    async def _trouble(self, jobs: Sequence[Job], error: OSError) -> GridError:
        """Nothing half-written stays; what to tell."""
        for job in jobs:
            await asyncio.to_thread(job.part.drop)
        return self._vault.room.trouble(error)
