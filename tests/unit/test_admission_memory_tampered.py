"""The memory proof: every kind of tampering is found, and strangers' bytes end in an AdmissionError."""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.admission.proof.chase import SEGMENT_STEPS
from gridllm.admission.proof.memory import HeldMemory, shown_bytes
from gridllm.admission.proof.memory_check import OpenedChunk, Shown
from gridllm.admission.proof.pages import CHUNK_WORDS, PAGE_BYTES, PAGE_CHUNKS
from gridllm.errors import AdmissionError
from tests.unit.admission_memory import SEED, Proof, prove

LAST = 3  # the second page shown is page 3: made of others


@functools.cache
def honest() -> Proof:
    """Four pages, chased and shown."""
    return prove(HeldMemory(SEED, 4 * PAGE_BYTES))


def flipped(data: bytes, at: int = 0) -> bytes:
    """``data`` with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def reshown(change: str) -> bytes:
    """The honest document with one thing changed."""
    shown = msgspec.msgpack.decode(honest().document, type=Shown)
    pages, segments = list(shown.pages), list(shown.segments)
    page, segment = pages[1], list(segments[1])
    chunk, before = page.sources[5], page.before
    assert before is not None
    replaced = functools.partial(msgspec.structs.replace)

    def source(new: OpenedChunk) -> None:
        pages[1] = replaced(page, sources=[*page.sources[:5], new, *page.sources[6:]])

    match change:
        case "source data":
            source(replaced(chunk, data=flipped(chunk.data, 4095)))
        case "source proof":
            source(replaced(chunk, proof=flipped(chunk.proof, 40)))
        case "source proof short":
            source(replaced(chunk, proof=chunk.proof[:-1]))
        case "source proof long":
            source(replaced(chunk, proof=chunk.proof + b"x"))
        case "source missing":
            pages[1] = replaced(page, sources=page.sources[1:])
        case "sources in other order":
            pages[1] = replaced(page, sources=page.sources[::-1])
        case "page proof":
            pages[1] = replaced(page, proof=flipped(page.proof))
        case "before data":
            pages[1] = replaced(page, before=replaced(before, data=flipped(before.data, 4090)))
        case "before missing":
            pages[1] = replaced(page, before=None)
        case "first page with sources":
            pages[0] = page
        case "pages swapped":
            pages.reverse()
        case "page missing":
            pages.pop()
        case "segment data":
            segments[1] = [replaced(segment[0], data=flipped(segment[0].data, 77)), *segment[1:]]
        case "segment proof":
            segments[1] = [*segment[:-1], replaced(segment[-1], proof=flipped(segment[-1].proof))]
        case "segment short":
            segments[1] = segment[1:]
        case "segments swapped":
            segments[0], segments[1] = segments[1], segments[0]
        case "segment missing":
            segments.pop()
    return msgspec.msgpack.encode(Shown(pages, segments))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("source data", "Chunk .* not shown as it was committed"),
        ("source proof", "Chunk .* not shown as it was committed"),
        ("source proof short", "Chunk .* not shown as it was committed"),
        ("source proof long", "Chunk .* not shown as it was committed"),
        ("source missing", "Page 3 is made of 64 chunks"),
        ("sources in other order", "Chunk .* not shown as it was committed"),
        ("page proof", "Page 3 .* not made from the seed"),
        ("before data", "Chunk 191 .* not shown as it was committed"),
        ("before missing", "Page 3 is made of 64 chunks"),
        ("first page with sources", "Page 0 is the first of its lane"),
        ("pages swapped", "Page 0 is the first of its lane"),
        ("page missing", "2 pages and 3 segments were to be opened; 1 and 3 came"),
        ("segment data", "Chunk .* not shown as it was committed"),
        ("segment proof", "Chunk .* not shown as it was committed"),
        ("segment short", "Segment 5 of the chase reads 16 words; 15"),
        ("segments swapped", "Chunk .* not shown as it was committed"),
        ("segment missing", "2 pages and 3 segments were to be opened; 2 and 2 came"),
    ],
)
def test_a_changed_document_is_found(change: str, sentence: str) -> None:
    with pytest.raises(AdmissionError, match=sentence):
        honest().verify(document=reshown(change))


def test_a_document_that_is_not_changed_passes() -> None:
    honest().verify(document=reshown("nothing"))


@pytest.mark.parametrize("segment", [5, 6])
def test_a_changed_checkpoint_is_found_where_it_is_opened(segment: int) -> None:
    checkpoints = flipped(honest().checkpoints, 8 * segment)
    with pytest.raises(AdmissionError, match=f"Segment {segment} of the chase does not lead|Chunk"):
        honest().verify(checkpoints=checkpoints)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"checkpoints": b""}, "has 7 checkpoints of 8 bytes; 0 bytes came"),
        ({"checkpoints": bytes(57)}, "has 7 checkpoints of 8 bytes; 57 bytes came"),
        ({"nonce": b"m" * 32}, "Chunk .* not shown as it was committed|does not lead"),
        ({"root": b"r" * 32}, "Page 0 .* not made from the seed"),
        ({"seed": b"t" * 32}, "Page 0 .* not made from the seed"),
        ({"nbytes": 3 * PAGE_BYTES}, "There is no page 3 to open; there are 3"),
        ({"nbytes": 5 * PAGE_BYTES}, "Page 0 .* not made from the seed"),
        ({"steps": 120}, "has 8 checkpoints"),
        ({"steps": 0}, "A chase has 1 to"),
        ({"pages": (0, 4)}, "There is no page 4"),
        ({"pages": (0, -1)}, "There is no page -1"),
        ({"pages": (0,) * 65}, "65 pages are to be opened; 64 at most"),
        ({"pages": (0, 2)}, "Chunk .* not shown as it was committed"),
        ({"segments": (0, 5, 7)}, "There is no segment 7"),
        ({"segments": (0, 4, 6)}, "Chunk .* not shown as it was committed"),
    ],
)
def test_a_proof_fits_nothing_else_than_what_was_asked(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(AdmissionError, match=sentence):
        honest().verify(**changed)


def test_cheap_content_is_found_though_it_is_held_and_committed_to() -> None:
    """A page that was changed before the commitment: its chunks are proven, but it was not made as it must be."""

    class Cheap(HeldMemory):
        def _fill_lane(self, index: int, leaves: bytearray, meter: object) -> None:
            super()._fill_lane(index, leaves, meter)  # type: ignore[arg-type]
            store, _ = self._store, self._tree
            assert store is not None
            data = store.gather(np.arange(PAGE_CHUNKS, 2 * PAGE_CHUNKS))
            data[9, 9] ^= np.uint64(1)
            store.write(1, data)
            from gridllm.admission.proof.memory_check import chunk_digests

            leaves[PAGE_CHUNKS * 32 : 2 * PAGE_CHUNKS * 32] = b"".join(chunk_digests(data))

    cheap = Cheap(SEED, 4 * PAGE_BYTES)
    with pytest.raises(AdmissionError, match="Page 1 of the memory was not made from the seed"):
        prove(cheap, Proof(b"", b"", b"", pages=(1,))).verify()


def test_a_chase_through_other_words_is_found() -> None:
    class Lazy(HeldMemory):
        def _words(self) -> object:  # type: ignore[override]
            class Zero:
                def __getitem__(self, index: int, /) -> int:
                    return 0

            return Zero()

    lazy = prove(Lazy(SEED, 4 * PAGE_BYTES), Proof(b"", b"", b"", pages=(), segments=(2,)))
    with pytest.raises(AdmissionError, match="Segment 2 of the chase does not lead|Chunk"):
        lazy.verify()


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_document_does_not_parse(keep: int) -> None:
    with pytest.raises(AdmissionError, match="does not parse"):
        honest().verify(document=honest().document[:keep])


def test_a_document_too_long_is_not_even_parsed() -> None:
    with pytest.raises(AdmissionError, match="more than it can take"):
        honest().verify(document=bytes(shown_bytes(2, 3) + 1))


def test_counts_of_chunks_are_what_the_caps_allow() -> None:
    assert CHUNK_WORDS * 8 * PAGE_CHUNKS == PAGE_BYTES
    segment = [[OpenedChunk(bytes(4096), b"")] * (SEGMENT_STEPS + 1)]
    with pytest.raises(AdmissionError, match="does not parse"):
        honest().verify(document=msgspec.msgpack.encode(Shown([], segment)), pages=(), segments=(0,))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_an_admission_error(raw: bytes) -> None:
    with pytest.raises(AdmissionError):
        honest().verify(document=raw)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=9)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(values, st.binary(max_size=60))
def test_other_documents_and_checkpoints_are_an_admission_error(value: object, checkpoints: bytes) -> None:
    with pytest.raises(AdmissionError):
        honest().verify(document=msgspec.msgpack.encode(value))
    with pytest.raises(AdmissionError):
        honest().verify(checkpoints=checkpoints)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_flipped_byte_anywhere_is_an_admission_error(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(honest().document) - 1))
    with pytest.raises(AdmissionError):
        honest().verify(document=flipped(honest().document, at))
