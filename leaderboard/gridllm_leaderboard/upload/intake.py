"""One upload coming in: says what is lacking, a window of pieces ahead, and writes what comes.

Network, disk and digests overlap: pieces that come while a thread writes the ones before wait for it, up to a bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from gridllm.errors import Malformed, ModelError, NotAccepted, OutOfTurn, PeerLost
from gridllm.models.cached import Item
from gridllm.models.manifest import Manifest
from gridllm.swarm.interface import Stream
from gridllm.swarm.seats import Seat
from gridllm_leaderboard.checking.facts import Facts, check_manifest, facts_of
from gridllm_leaderboard.upload.interface import Expected
from gridllm_leaderboard.upload.wire import PIECE_BYTES, Begin, Declined, Piece, Plan, Want, encode, from_author
from gridllm_leaderboard.upload.writing import Job, Writing
from gridllm_leaderboard.vault.vault import Lack, Vault

WINDOW_BYTES: Final = 4 * 1024 * 1024  # asked for ahead: 40 MB/s at a round trip of 100 ms
WINDOW_PIECES: Final = 128  # likewise, of small tensors
PIECE_S: Final = 30.0  # for one piece: 70 kbit/s at least
STALLED_S: Final = 20.0  # a peer that takes no questions for so long is left
ROUNDS: Final = 3  # of looking for what is lacking: a file may be swept out, or found damaged, in between


@dataclass(frozen=True, slots=True)
class _Step:
    """One piece that was asked for."""

    job: Job
    offset: int
    count: int


class Intake:
    """Everything of one upload. ``run`` once."""

    def __init__(self, vault: Vault, stream: Stream, expected: Expected, begin: Begin, seat: Seat) -> None:
        """``seat``: the place that the upload holds; it may have to give way."""
        self._vault = vault
        self._stream = stream
        self._seat = seat
        self._expected = expected
        self._begin = begin
        self._root = expected.root

    async def run(self) -> None:
        """Until all of it is in the vault.

        Raises:
            ModelError: the manifest is not what the submission said, or no model's: nothing of it is ever taken.
            NotAccepted: the disk is full; or what came is not what the manifest names.
            PeerLost, WireError, Refusal, TimeoutError: the author went away, or does not keep to the protocol.
        """
        try:
            await self._all()
        except TimeoutError:  # which is an OSError, too
            raise
        except OSError as error:
            raise self._vault.room.trouble(error) from error

    async def _all(self) -> None:
        manifest = await self._manifest()
        for _ in range(ROUNDS):
            lacking = await asyncio.to_thread(self._vault.lacking, self._root, manifest)
            sizes = {lack.item.sha256: self._size(lack.item) for lack in lacking}
            await asyncio.to_thread(self._reserve, manifest, lacking, sizes)
            await self._say(self._plan(manifest, lacking, sizes))
            await self._fetch([self._job(lack, sizes[lack.item.sha256]) for lack in lacking])
            if await asyncio.to_thread(self._vault.assemble, self._root, manifest):
                return
        raise NotAccepted("The leaderboard's copy of these files is damaged; tell its maintainer, and try again.")

    async def _manifest(self) -> Manifest:
        manifest = await asyncio.to_thread(self._vault.expected, self._root)
        if manifest is None:
            part = await asyncio.to_thread(self._vault.manifest_part, self._root, self._begin.manifest)
            await self._fetch([Job(part, None, resumed=part.path.exists())])
            manifest = await asyncio.to_thread(self._vault.expected, self._root)
        if manifest is None:
            raise ModelError("What came as the model's manifest is none.")
        await asyncio.to_thread(check_manifest, manifest)
        said = Facts(self._expected.parameters, self._expected.size, self._expected.weights)
        if await asyncio.to_thread(facts_of, manifest) != said:
            raise ModelError("The submission states another size, number of parameters or weights than its manifest.")
        return manifest

    def _size(self, item: Item) -> int:
        size = self._begin.files.get(item.sha256) if item.size is None else item.size
        if size is None:
            raise Malformed(f"The size of {item.name[:80]} was not said.")
        return size

    def _reserve(self, manifest: Manifest, lacking: Sequence[Lack], sizes: dict[str, int]) -> None:
        coming = sum(sizes[lack.item.sha256] - lack.offset for lack in lacking)
        self._vault.reserve(self._root, coming + self._vault.copies(self._root, manifest, lacking))

    def _plan(self, manifest: Manifest, lacking: Sequence[Lack], sizes: dict[str, int]) -> Plan:
        digests = {one.sha256: one.size for one in manifest.tensors.values()}
        digests |= {digest: self._begin.files.get(digest, 0) for digest in manifest.tokenizer.values()}
        coming = sum(max(0, sizes[lack.item.sha256] - lack.offset) for lack in lacking)
        total = sum(digests.values())
        return Plan(total, max(0, total - coming))

    def _job(self, lack: Lack, size: int) -> Job:
        return Job(self._vault.part(self._root, lack.item, size), lack.item, resumed=lack.offset > 0)

    # pieces

    async def _fetch(self, jobs: Sequence[Job]) -> None:
        """Have all parts brought, written and finished."""
        writing = Writing(self._vault, self._root)
        try:
            await self._bring(writing, jobs)
            while spoilt := list(writing.spoilt):
                writing.spoilt.clear()
                await self._bring(writing, spoilt)
        finally:
            await asyncio.shield(asyncio.create_task(writing.let_go()))

    async def _bring(self, writing: Writing, jobs: Sequence[Job]) -> None:
        """Ask a window ahead; pieces come in the order in which they were asked for."""
        asked: deque[_Step] = deque()
        window = 0
        steps = _steps(writing, jobs)
        step = await anext(steps, None)
        while step is not None or asked:
            while step is not None and window + step.count <= WINDOW_BYTES and len(asked) < WINDOW_PIECES:
                await self._say(Want(step.job.part.digest, step.offset))
                asked.append(step)
                window += step.count
                step = await anext(steps, None)
            due = asked.popleft()
            body = await self._piece(due)
            window -= due.count
            await writing.add(due.job, body)
        await writing.flush()

    async def _piece(self, due: _Step) -> bytearray:
        async with self._seat.waiting(PIECE_S):
            header, body = await self._stream.read()
        message = from_author(header)
        if isinstance(message, Declined):
            raise PeerLost(f"The author does not go on: {message.text}")
        if not isinstance(message, Piece) or (message.digest, message.offset) != (due.job.part.digest, due.offset):
            raise OutOfTurn("An upload's pieces come in the order in which they were asked for.")
        if len(body) != due.count:
            raise Malformed(f"A piece of an upload has {len(body)} bytes where {due.count} were asked for.")
        self._seat.moved(len(body))
        return body

    async def _say(self, message: Want | Plan) -> None:
        async with self._seat.waiting(STALLED_S):
            await self._stream.write(encode(message))


async def _steps(writing: Writing, jobs: Sequence[Job]) -> AsyncIterator[_Step]:
    """All pieces of all parts; of each at least one: what is empty, or came before, has to be finished, too."""
    for job in jobs:
        offset = await writing.start(job)
        while True:
            count = min(PIECE_BYTES, job.part.size - offset)
            yield _Step(job, offset, count)
            offset += count
            if offset >= job.part.size:
                break
