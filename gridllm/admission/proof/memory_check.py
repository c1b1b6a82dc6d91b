"""What the authority checks of a memory proof: a few pages, a few segments of the chase. ``memory.py`` says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from gridllm.admission.messages import MAX_SHOWN, MAX_STEPS
from gridllm.admission.proof.chase import (
    CHECKPOINT_BYTES,
    SEGMENT_STEPS,
    checkpoint,
    earlier_checkpoint,
    segment_count,
    segment_steps,
    start_state,
    walk,
)
from gridllm.admission.proof.merkle import verify_inclusion
from gridllm.admission.proof.pages import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    CHUNK_WORDS,
    LANE_PAGES,
    PAGE_CHUNKS,
    Chunks,
    Lane,
    page_count,
)
from gridllm.errors import AdmissionError
from gridllm.merkle import DIGEST_BYTES, leaf_digest, node_digest
from gridllm.wire.strict import UNPARSABLE

_MAX_PROOF: Final = 40 * DIGEST_BYTES  # of a memory of 2^50 bytes: 38 levels

Proof = Annotated[bytes, Meta(max_length=_MAX_PROOF)]


class OpenedChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One chunk as committed to."""

    data: Annotated[bytes, Meta(min_length=CHUNK_BYTES, max_length=CHUNK_BYTES)]
    proof: Proof  # digests beside its way to the root, one after the other


class OpenedPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What a page was made of. The page itself is not sent: the verifier makes it again."""

    proof: Proof  # from the page's own root, six levels up, to the root
    before: OpenedChunk | None  # the last chunk of the page before; None for a lane's first page
    sources: Annotated[list[OpenedChunk], Meta(max_length=PAGE_CHUNKS)]  # in the order of Lane.sources


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The document behind a ShowPages."""

    pages: Annotated[list[OpenedPage], Meta(max_length=MAX_SHOWN)]
    segments: Annotated[
        list[Annotated[list[OpenedChunk], Meta(max_length=SEGMENT_STEPS)]], Meta(max_length=MAX_SHOWN)
    ]  # the chunk of each step's word


_decoder = msgspec.msgpack.Decoder(Shown)


def shown_bytes(pages: int, segments: int) -> int:
    """The most that a document with so many pages and segments opened may take."""
    chunk = CHUNK_BYTES + _MAX_PROOF + 16
    return pages * ((PAGE_CHUNKS + 1) * chunk + _MAX_PROOF + 16) + segments * (SEGMENT_STEPS * chunk + 16) + 64


def chunk_digests(page: Chunks) -> list[bytes]:
    """The leaves of one page [64, 512]."""
    raw = page.tobytes()
    return [leaf_digest(raw[at : at + CHUNK_BYTES]) for at in range(0, len(raw), CHUNK_BYTES)]


def page_root(page: Chunks) -> bytes:
    """The node of the memory's tree under which the chunks of one page [64, 512] stand."""
    level = chunk_digests(page)
    while len(level) > 1:
        level = [node_digest(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]


def verify_shown(
    document: bytes,
    *,
    seed: bytes,
    nbytes: int,
    root: bytes,
    nonce: bytes,
    steps: int,
    checkpoints: bytes,
    pages: Sequence[int],
    segments: Sequence[int],
) -> None:
    """Check an opened memory against what was asked for and what was committed to (``root``, ``checkpoints``).

    Raises:
        AdmissionError: the document does not parse or shows other things than were asked for, a page does not follow
            from the seed, a chunk is not what was committed to, or a segment of the chase was not walked.
    """
    count = page_count(nbytes)
    check_asked(count, steps, pages, segments)
    if len(checkpoints) != segment_count(steps) * CHECKPOINT_BYTES:
        raise AdmissionError(
            f"A chase of {steps} steps has {segment_count(steps)} checkpoints of {CHECKPOINT_BYTES} bytes; "
            f"{len(checkpoints)} bytes came."
        )
    shown = _parse(document, len(pages), len(segments))
    for page, opened in zip(pages, shown.pages, strict=True):
        _check_page(page, opened, seed, root, count)
    chase = [start_state(nonce, root), *np.frombuffer(checkpoints, np.dtype("<u8")).tolist()]
    for segment, chunks in zip(segments, shown.segments, strict=True):
        _check_segment(segment, chunks, chase, steps, root, count)


def check_asked(count: int, steps: int, pages: Sequence[int], segments: Sequence[int]) -> None:
    """Check that such a memory of ``count`` pages, chased for ``steps``, has these pages and segments to open.

    Raises:
        AdmissionError: it has not, or they are too many.
    """
    if not 0 < steps <= MAX_STEPS:
        raise AdmissionError(f"A chase has 1 to {MAX_STEPS} steps, not {steps}.")
    for what, asked, among in (("page", pages, count), ("segment", segments, segment_count(steps))):
        if len(asked) > MAX_SHOWN:
            raise AdmissionError(f"{len(asked)} {what}s are to be opened; {MAX_SHOWN} at most.")
        for one in asked:
            if not 0 <= one < among:
                raise AdmissionError(f"There is no {what} {one} to open; there are {among}.")


def _parse(document: bytes, pages: int, segments: int) -> Shown:
    if len(document) > shown_bytes(pages, segments):
        raise AdmissionError(f"The opened memory came as {len(document)} bytes, more than it can take.")
    try:
        shown = _decoder.decode(document)
    except UNPARSABLE as error:
        raise AdmissionError(f"The opened memory does not parse: {error}.") from error
    if len(shown.pages) != pages or len(shown.segments) != segments:
        raise AdmissionError(
            f"{pages} pages and {segments} segments were to be opened; "
            f"{len(shown.pages)} and {len(shown.segments)} came."
        )
    return shown


def _check_page(page: int, opened: OpenedPage, seed: bytes, root: bytes, count: int) -> None:
    lane = Lane(seed, page // LANE_PAGES)
    if page == lane.first_page:
        made = lane.first()
        if opened.before is not None or opened.sources:
            raise AdmissionError(f"Page {page} is the first of its lane and made of no others, yet others are shown.")
    else:
        if opened.before is None or len(opened.sources) != PAGE_CHUNKS:
            raise AdmissionError(f"Page {page} is made of {PAGE_CHUNKS} chunks and the page before; not all are shown.")
        _check_chunk(page * PAGE_CHUNKS - 1, opened.before, root, count)
        tail = opened.before.data[-BLOCK_BYTES:]
        for chunk, source in zip(lane.sources(page, tail).tolist(), opened.sources, strict=True):
            _check_chunk(chunk, source, root, count)
        joined = np.frombuffer(b"".join(source.data for source in opened.sources), np.dtype("<u8"))
        made = lane.make(joined.reshape(PAGE_CHUNKS, CHUNK_WORDS), tail)
    try:
        verify_inclusion(root, count, page, page_root(made), _split(opened.proof))
    except AdmissionError as error:
        raise AdmissionError(f"Page {page} of the memory was not made from the seed as it must be.") from error


def _check_chunk(chunk: int, opened: OpenedChunk, root: bytes, count: int) -> None:
    try:
        verify_inclusion(root, count * PAGE_CHUNKS, chunk, leaf_digest(opened.data), _split(opened.proof))
    except AdmissionError as error:
        raise AdmissionError(f"Chunk {chunk} of the memory is not shown as it was committed to.") from error


def _split(proof: bytes) -> list[bytes]:
    """The digests of a proof; a rest that is none stays a digest too short, which fits nowhere."""
    return [proof[at : at + DIGEST_BYTES] for at in range(0, len(proof), DIGEST_BYTES)]


def _check_segment(
    segment: int, chunks: Sequence[OpenedChunk], chase: Sequence[int], steps: int, root: bytes, count: int
) -> None:
    own = segment_steps(steps, segment)
    if len(chunks) != own:
        raise AdmissionError(f"Segment {segment} of the chase reads {own} words; {len(chunks)} chunks are shown.")
    state = walk(_OpenedWords(chunks, root, count), count * PAGE_CHUNKS * CHUNK_WORDS, chase[segment], own)
    if checkpoint(state, chase[earlier_checkpoint(state, segment + 1)]) != chase[segment + 1]:
        raise AdmissionError(f"Segment {segment} of the chase does not lead to the checkpoint that was sent.")


class _OpenedWords:
    """The memory as far as it was opened: each word is read from the next chunk shown, which is checked first."""

    def __init__(self, chunks: Sequence[OpenedChunk], root: bytes, count: int) -> None:
        self._chunks = iter(chunks)
        self._root = root
        self._count = count

    def __getitem__(self, index: int, /) -> int:
        opened = next(self._chunks)
        chunk, word = divmod(index, CHUNK_WORDS)
        _check_chunk(chunk, opened, self._root, self._count)
        return int.from_bytes(opened.data[8 * word : 8 * word + 8], "little")
