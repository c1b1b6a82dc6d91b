"""The author's side of an upload: answers what the leaderboard asks for, and begins again after every break."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridllm.errors import Full, GaveWay, ModelError, OutOfTurn, PeerLost, Refusal, SwarmError, TooSoon, WireError
from gridllm.ids import PeerId
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES, Manifest, manifest_bytes
from gridllm.models.weights import Checkpoint
from gridllm.swarm.interface import Stream, Swarm
from gridllm_leaderboard.messages import UPLOAD_STREAM
from gridllm_leaderboard.upload.wire import (
    PIECE_BYTES,
    Begin,
    Declined,
    Piece,
    Plan,
    Want,
    Whole,
    encode,
    from_leaderboard,
)

log = logging.getLogger(__name__)

CONNECT_S: Final = 5.0
SILENT_S: Final = 180.0  # the leaderboard may have to read what it has, or to copy
STALLED_S: Final = 30.0  # it takes no piece for so long
BATCH: Final = 16  # pieces that are read at once
WAITING: Final = 512  # questions that may wait; the leaderboard asks fewer ahead
PAUSE_S: Final = 0.5  # after a break; doubling
LONGEST_PAUSE_S: Final = 10.0
GIVE_UP_S: Final = 180.0  # without a byte in between: time enough to start a leaderboard anew
MAX_BODY_BYTES: Final = 4096  # of what the leaderboard sends: it has no bodies

Find = Callable[[], Awaitable[tuple[PeerId, tuple[str, ...]]]]
"""Where the leaderboard is now; raises SwarmError."""
Progress = Callable[[int, int], None]
"""Called on the event loop with (bytes that are there, bytes in all)."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where bytes of one digest lie."""

    file: Path | None  # None: the manifest
    offset: int
    size: int


class Bundle:
    """All files of a model, by digest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Reads headers and tokenizer files: not for the event loop.

        Raises:
            ModelError: the folder is not that of the manifest.
        """
        self._manifest = manifest_bytes(manifest)
        self.root = hashlib.sha256(self._manifest).hexdigest()
        self._places = {self.root: _Place(None, 0, len(self._manifest))}
        checkpoint = Checkpoint.open(folder)
        for name, entry in manifest.tensors.items():
            slot = checkpoint.slot(name)
            if slot.size != entry.size:
                raise ModelError(f"Tensor {name} in {folder} changed since it was read: run the command again.")
            self._places[entry.sha256] = _Place(slot.file, slot.offset, slot.size)
        self.files: dict[str, int] = {}  # digest of a tokenizer file → bytes
        for name, digest in manifest.tokenizer.items():
            self.files[digest] = min((folder / name).stat().st_size, MAX_SMALL_FILE_BYTES)
            self._places[digest] = _Place(folder / name, 0, self.files[digest])

    @property
    def manifest_size(self) -> int:
        """Bytes."""
        return len(self._manifest)

    def read(self, digest: str, offset: int) -> bytes:
        """The next piece.

        Raises:
            ModelError: there is no such thing here, or it changed.
        """
        place = self._places.get(digest)
        if place is None or offset > place.size:
            raise ModelError("The leaderboard asks for something that this model does not have.")
        count = min(PIECE_BYTES, place.size - offset)
        if place.file is None:
            return self._manifest[offset : offset + count]
        try:
            with place.file.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), count, place.offset + offset)
        except OSError as error:
            raise ModelError(f"{place.file} cannot be read: {error.strerror}.") from error
        if len(data) != count:
            raise ModelError(f"{place.file} became shorter: run the command again.")
        return data


async def send_bundle(
    swarm: Swarm,
    find: Find,
    submission: str,
    delegation: Callable[[], bytes],
    bundle: Bundle,
    progress: Progress | None = None,
) -> None:
    """Until the leaderboard has all of it. After a break it resumes where it was.

    Args:
        submission: its id.
        delegation: the author's word that this connection acts for it (ledger.statements.Delegation), not expired.

    Raises:
        SwarmError: the leaderboard stays away.
        Refusal: it does not take the upload.
        ModelError: the files changed, or cannot be read.
    """
    loop = asyncio.get_running_loop()
    sending, pause, give_up_at = _Sending(bundle, progress), PAUSE_S, loop.time() + GIVE_UP_S
    while True:
        before = sending.sent
        try:
            peer, addresses = await find()
            await swarm.connect(peer, addresses, timeout_s=CONNECT_S)
            stream = await swarm.open_stream(peer, UPLOAD_STREAM, timeout_s=CONNECT_S, max_body_bytes=MAX_BODY_BYTES)
            try:
                await sending.run(stream, Begin(submission, delegation(), bundle.manifest_size, bundle.files))
                return
            finally:
                await stream.close()
        except (SwarmError, WireError, Full, GaveWay, TooSoon) as error:
            log.info("The upload was interrupted: %s", error)
            if sending.sent > before:
                pause, give_up_at = PAUSE_S, loop.time() + GIVE_UP_S
            if loop.time() >= give_up_at:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - those who were sent away come singly
        pause = min(2 * pause, LONGEST_PAUSE_S)


class _Sending:
    """One bundle over any number of streams."""

    def __init__(self, bundle: Bundle, progress: Progress | None) -> None:
        self.sent = 0  # bytes, over all streams
        self._bundle = bundle
        self._progress = progress
        self._total = 0
        self._here = 0

    async def run(self, stream: Stream, begin: Begin) -> None:
        """Over one stream, to the end. Raises SwarmError, WireError, Refusal, ModelError."""
        wants: asyncio.Queue[Want] = asyncio.Queue(WAITING)
        await self._write(stream, encode(begin), b"")
        answering = asyncio.create_task(self._answer(stream, wants))
        listening = asyncio.create_task(self._listen(stream, wants))
        try:
            await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not listening.done():
                # What the leaderboard says as it ends tells more than that the stream ended.
                await asyncio.wait((listening,), timeout=1.0)
            await (listening if listening.done() else answering)
        finally:
            for task in (answering, listening):
                task.cancel()
            await asyncio.gather(answering, listening, return_exceptions=True)

    async def _listen(self, stream: Stream, wants: asyncio.Queue[Want]) -> None:
        """Until all is there."""
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    header, _ = await stream.read()
            except TimeoutError:
                raise PeerLost(f"The leaderboard was silent for {SILENT_S:.0f} s.") from None
            match from_leaderboard(header):
                case Whole():
                    return
                case Declined(code=code, text=text):
                    raise Refusal.from_wire(code, text)
                case Plan(total=total, here=here):
                    self._total, self._here = total, here
                    self._show()
                case Want() as want:
                    if wants.full():
                        raise OutOfTurn("The leaderboard asks for more at once than it may.")
                    wants.put_nowait(want)

    async def _answer(self, stream: Stream, wants: asyncio.Queue[Want]) -> None:
        while True:
            batch = [await wants.get()]
            while not wants.empty() and len(batch) < BATCH:
                batch.append(wants.get_nowait())
            bodies = await asyncio.to_thread(self._read, batch)
            for want, body in zip(batch, bodies, strict=True):
                await self._write(stream, encode(Piece(want.digest, want.offset)), body)
                self.sent += len(body)
                if want.digest != self._bundle.root:
                    self._here += len(body)
            self._show()

    def _read(self, batch: list[Want]) -> list[bytes]:
        return [self._bundle.read(want.digest, want.offset) for want in batch]

    async def _write(self, stream: Stream, header: bytes, body: bytes) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await stream.write(header, body)
        except TimeoutError:
            raise PeerLost(f"The leaderboard took nothing for {STALLED_S:.0f} s.") from None

    def _show(self) -> None:
        if self._progress is not None and self._total:
            self._progress(min(self._here, self._total), self._total)
