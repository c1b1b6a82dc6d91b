"""Hands out weights to whoever asks: the tensors and tokenizer files of manifests, read from disk piece by piece.

What is sent need not be trusted (the reader checks digests), so anyone may seed and anyone may ask; bounded are the
streams, the reads at once, and with them memory. Streams that are silent or slow give way to whoever waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gridllm.errors import (
    BadPosition,
    Full,
    GaveWay,
    GridError,
    Malformed,
    ModelError,
    NodeFault,
    NotHeld,
    Refusal,
    WireError,
    WrongModel,
)
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.headers import Slot
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES, TOKENIZER_FILES, Manifest
from gridllm.models.weights import Checkpoint
from gridllm.swarm.giving_way import Terms
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.places import SeenAt, nowhere
from gridllm.swarm.seats import Seat, Seats
from gridllm.wire.weights import PIECE_BYTES, WEIGHTS_STREAM, Declined, Piece, Want, decode_want, encode

log = logging.getLogger(__name__)

STREAMS: Final = 64  # at once; each holds at most one piece and about 1 MB that waits to be sent
STREAMS_PER_PEER: Final = 2
READS_AT_ONCE: Final = 4  # they are granted in turn, one piece at a time: no peer gets ahead of the others
IDLE_S: Final = 180.0  # a stream without a question for so long is closed, though nobody waits
STALLED_S: Final = 180.0  # so is one whose peer takes nothing
WAITED_FOR: Final = Terms(first_s=5.0, bytes_per_s=PIECE_BYTES / 20, least_s=2.0, most_s=20.0, turn_s=30.0)
"""While others wait: a piece in 20 s, as long as our own reader waits for one (``reading.PIECE_S``)."""
MAX_QUESTION_BYTES: Final = 4096  # a question has no body at all
FULL: Final = "This peer hands out weights to as many as it can at present; ask another, or come again."


class Shelf:
    """The models whose files are here."""

    def __init__(self) -> None:
        self._books: dict[ModelRoot, tuple[Manifest, Checkpoint, Path]] = {}

    def put(self, root: ModelRoot, manifest: Manifest, folder: Path) -> None:
        """Hand out what ``folder`` holds of that model from now on. Reads headers: not for the event loop.

        Raises:
            ModelError: the folder holds no model, or a damaged one.
        """
        self._books[root] = manifest, Checkpoint.open(folder), folder

    def take(self, root: ModelRoot) -> None:
        """Hand it out no more."""
        self._books.pop(root, None)

    @property
    def roots(self) -> list[ModelRoot]:
        """Of the models."""
        return sorted(self._books)

    def locate(self, want: Want) -> Slot:
        """Where the tensor or file lies.

        Raises:
            WrongModel, NotHeld: it is not here.
        """
        book = self._books.get(ModelRoot(want.root))
        if book is None:
            raise WrongModel(f"This peer holds no weights of the model {want.root[:16]}…; ask another.")
        manifest, checkpoint, folder = book
        if want.file:
            return _small_file(manifest, folder, want.name)
        entry, slot = manifest.tensors.get(want.name), checkpoint.slots.get(want.name)
        if entry is None or slot is None or (slot.size, slot.dtype) != (entry.size, entry.dtype):
            raise NotHeld(f"This peer does not hold the tensor {want.name[:200]!r} of {want.root[:16]}…; ask another.")
        return slot


class Seeding:
    """Answers questions for what is on a shelf: ``await Seeding(shelf).serve(swarm)``."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        streams: int = STREAMS,
        reads_at_once: int = READS_AT_ONCE,
        may: Callable[[PeerId, str], bool] = lambda _peer, _root: True,
        first: Callable[[PeerId], bool] = lambda _peer: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            may: whether that peer may have the weights of that root; to others it is as if they were not here.
            first: whether that peer has its streams though strangers, whose names cost nothing, hold all there are.
        """
        self.shelf = shelf
        self._may = may
        self._first = first
        self.sent_bytes = 0
        self._reading = asyncio.Semaphore(reads_at_once)  # first come, first served
        self._seats = Seats(streams, STREAMS_PER_PEER, WAITED_FOR, FULL, clock=clock)
        self._seen_at: SeenAt = nowhere

    @property
    def readers(self) -> int:
        """Peers that fetch now."""
        return len(self._seats.peers)

    async def serve(self, swarm: Swarm) -> None:
        """Answer from now on, for as long as ``swarm`` lives.

        Raises:
            SwarmError: the swarm is closed.
        """
        self._seen_at = swarm.seen_at
        await swarm.serve_streams(WEIGHTS_STREAM, self._on_stream, max_body_bytes=MAX_QUESTION_BYTES)

    async def _on_stream(self, stream: Stream) -> None:
        peer = stream.peer
        try:
            async with self._seats.one(peer, self._seen_at, first=self._first(peer)) as seat:
                try:
                    await self._answer_all(stream, seat)
                except GaveWay as refusal:
                    _part(stream, refusal)
                    await stream.close()  # until then it counts among those who leave: what waits for it is bounded
        except Full as refusal:
            _part(stream, refusal)
        except (GridError, TimeoutError) as error:
            log.debug("Stream of weights to %s ended: %s", peer, error)

    async def _answer_all(self, stream: Stream, seat: Seat) -> None:
        while True:
            async with seat.waiting(IDLE_S):
                header, _ = await stream.read()
            try:
                want = decode_want(header)
            except WireError as error:
                _part(stream, Malformed(str(error)))
                return
            body = b""
            try:
                self._admit(stream.peer, want)
                size, body = await self._piece(want)
                answer: Piece | Declined = Piece(size)
            except Refusal as refusal:
                answer = _declined(refusal)
            async with seat.waiting(STALLED_S):
                await stream.write(encode(answer), body)
            seat.moved(len(body))
            self.sent_bytes += len(body)

    def _admit(self, peer: PeerId, want: Want) -> None:
        """Raises WrongModel."""
        if not self._may(peer, want.root):
            raise WrongModel(f"This peer holds no weights of the model {want.root[:16]}… for you; ask another.")

    async def _piece(self, want: Want) -> tuple[int, bytes]:
        slot = self.shelf.locate(want)
        if want.offset > slot.size:
            raise BadPosition(f"{want.name[:200]!r} has {slot.size} bytes; there is nothing at {want.offset}.")
        count = min(PIECE_BYTES, slot.size - want.offset)
        async with self._reading:
            return slot.size, await asyncio.to_thread(_read, slot.file, slot.offset + want.offset, count)


def verify_files(
    folder: Path,
    manifest: Manifest,
    *,
    progress: Callable[[int, int], None] | None = None,
    stopped: threading.Event | None = None,
) -> None:
    """Read a whole model folder and compare it with the manifest, so that a seed sends nothing that is thrown away.

    Args:
        progress: called with (bytes done, bytes in all).
        stopped: ends it after the tensor under way.

    Raises:
        ModelError: something is missing, damaged, or another model's.
    """
    manifest.check_config(folder)
    manifest.check_tokenizer(folder)
    checkpoint = Checkpoint.open(folder)
    total, done = sum(entry.size for entry in manifest.tensors.values()), 0
    for name, entry in manifest.tensors.items():
        if stopped is not None and stopped.is_set():
            return
        if checkpoint.digest(name) != entry.sha256:
            raise ModelError(f"Tensor {name} in {folder} is not the grid's: get the same files as the maintainer.")
        done += entry.size
        if progress is not None:
            progress(done, total)


def _small_file(manifest: Manifest, folder: Path, name: str) -> Slot:
    path = folder / name if name in manifest.tokenizer and name in TOKENIZER_FILES else None
    try:
        size = path.stat().st_size if path is not None else -1
    except OSError:
        size = -1
    if path is None or not 0 <= size <= MAX_SMALL_FILE_BYTES:
        raise NotHeld(f"This peer does not hold the file {name[:128]!r} of that model; ask another.")
    return Slot(path, "U8", (size,), 0, size)


def _read(file: Path, offset: int, count: int) -> bytes:
    """``count`` bytes at ``offset``. Raises NodeFault."""
    try:
        handle = os.open(file, os.O_RDONLY)
        try:
            data = os.pread(handle, count, offset)
        finally:
            os.close(handle)
    except OSError as error:
        log.warning("%s cannot be read: %s", file, error)
        raise NodeFault("This peer cannot read its own file; ask another.") from error
    if len(data) != count:
        log.warning("%s is shorter than when it was opened", file)
        raise NodeFault("This peer's own file changed; ask another.")
    return data


def _declined(refusal: Refusal) -> Declined:
    return Declined(refusal.code, str(refusal)[:1024])


def _part(stream: Stream, refusal: Refusal) -> None:
    """Say why the stream ends. Who does not listen is not waited for."""
    with contextlib.suppress(GridError):
        stream.send(encode(_declined(refusal)))
