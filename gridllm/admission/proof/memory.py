"""Memory that is proven to be held: filled from the authority's seed, then read where nobody can foresee.

**What stands against which cheat:**

- *Claiming without holding.* The pages are pseudo-random and cannot be packed smaller; the root commits to them
  before the chase's nonce is sent. The chase reads word after word, each found by the last: there is nothing to fetch
  ahead.
- *Making pages again on demand.* A page costs 0.3 ms, a word that is held 0.4 µs. Bookmarks would cheapen that: CBC
  goes on from any 16 bytes of its output, so a page made of one other page could be made again from its middle, for a
  microsecond. Hence a page is made of 64 chunks of earlier ones, and each of its blocks holds a block of each chunk
  (``pages.py``): who drops blocks needs 64 others for one, of which as many were dropped, and so on. Sums of words
  and of bits take turns, lest a few of them give another. What went in is joined with what CBC puts out, which alone
  could be decrypted: sources would be read back from the pages made of them.
- *Filling with cheap content.* After the chase the authority opens a few pages: makes each again from its 64 chunks
  and the tail of the page before, all looked up under the root, and looks up the page itself. 8 pages find a tenth of
  cheap ones in 57 of 100 examinations, a quarter in 90; 16 pages in 81 and 99, for twice the bytes.
- *Chasing pieces side by side*, say on a disk that answers many reads at once. Every 16 steps a checkpoint takes in
  an earlier one that the state chooses, so a piece begun further on lacks what it must take in. To halve the depth of
  such a path one must invent about a seventh of its checkpoints (Valiant's cut, calculated): 4 opened segments find
  that in about half of all examinations, 12 in 85 of 100, for 0.9 MB.
- *Checkpoints from elsewhere.* The start comes from nonce and root: a list fits one fill and one question.
- *Swapping.* The deadline leaves 30 µs a step. With half on an NVMe disk that answers a lone read in 80 µs (a usual
  figure, not measured here) the chase takes 8 s.

**Measured** on 2 shared cores (EPYC), one thread, others at work beside it: 1 GiB filled in 2.2 s, in 5.0 s where the
virtual machine had to be given fresh memory first; the chase in 0.10 s (0.07 s through 16 MiB); 8 pages and 4
segments of it shown in 8 ms, verified in 14 ms; their document 2.7 MB (0.3 MB a page, 75 kB a segment). Beyond the
pages the tree takes 1.6 %, 2.4 % while it is built. A holder of half the pages of 1 GiB made 119 pages for each step,
0.14 s: a chase of 7 hours, though it was let keep all that it made until the step was done, for which it had no
room.

**What remains.** By estimate, about a twentieth can be saved by machine code that drops single blocks which seldom
need each other, and the first pages of a lane, made of little, are cheap. Up to a third may lie on a fast disk;
all of it in another machine's memory that is reached within 30 µs. Several names on one machine can show the same
memory one after the other: it is proven for an examination, not for a certificate's life. A GPU's memory can be shown
out of the host's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
import numpy as np

from gridllm.admission.proof.chase import Words, follow, segment_count, segment_steps, start_state, walk
from gridllm.admission.proof.memory_check import (
    OpenedChunk,
    OpenedPage,
    Shown,
    check_asked,
    chunk_digests,
    shown_bytes,
    verify_shown,
)
from gridllm.admission.proof.memory_store import PageStore, allocate
from gridllm.admission.proof.merkle import MerkleTree
from gridllm.admission.proof.pages import (
    BLOCK_BYTES,
    CHUNK_WORDS,
    LANE_PAGES,
    PAGE_BYTES,
    PAGE_CHUNKS,
    Lane,
    page_count,
)
from gridllm.errors import AdmissionError
from gridllm.merkle import DIGEST_BYTES

__all__ = [
    "CHASE_DEADLINE_S",
    "CHASE_STEPS",
    "HeldMemory",
    "page_count",
    "segment_count",
    "shown_bytes",
    "verify_shown",
]

CHASE_STEPS: Final = 196608  # more would catch slower swaps, but might be too many for reads from a GPU
CHASE_DEADLINE_S: Final = 6.0  # 30 µs a step

_PAGE_LEVELS: Final = PAGE_CHUNKS.bit_length() - 1  # of the tree, within a page
_PAGE_LEAVES: Final = PAGE_CHUNKS * DIGEST_BYTES


class HeldMemory:
    """The candidate's side: memory filled from the authority's seed and held. Blocking; for worker threads."""

    def __init__(self, seed: bytes, nbytes: int, *, threads: int = 1, device: str = "cpu") -> None:
        """Nothing is taken yet.

        Args:
            seed: of the challenge.
            nbytes: to fill; rounded up to whole pages of 256 KiB.
            threads: that fill.
            device: of torch, to fill.

        Raises:
            AdmissionError: ``nbytes`` is no amount to prove.
        """
        self.pages = page_count(nbytes)
        self._seed = seed
        self._threads = max(1, threads)
        self._device = device
        self._store: PageStore | None = None
        self._tree: MerkleTree | None = None
        self._chase: tuple[int, list[int]] = (0, [])  # steps of the last chase, and its checkpoints from the start on
        self._let_go = threading.Event()

    def fill(self, progress: Callable[[float], None] | None = None) -> bytes:
        """Fill all pages; the Merkle root over their chunks.

        Args:
            progress: hears the share that is filled, 0 to 1, about a hundred times, from the filling threads.

        Raises:
            AdmissionError: so much memory could not be had, or ``release`` was called meanwhile.
        """
        self._store = allocate(self.pages, self._device)
        leaves = bytearray(self.pages * _PAGE_LEAVES)
        meter = _Meter(self.pages, progress)
        lanes = range(-(-self.pages // LANE_PAGES))
        with ThreadPoolExecutor(self._threads, "gridllm-fill") as pool:
            for _ in pool.map(lambda lane: self._fill_lane(lane, leaves, meter), lanes):
                pass  # raises what a lane raised
        self._tree = MerkleTree([leaves])
        return self._tree.root

    def chase(self, nonce: bytes, steps: int) -> bytes:
        """Follow the path that starts from ``nonce`` and the root; its checkpoints, 8 bytes each.

        Raises:
            AdmissionError: nothing is filled, or there is no such chase.
        """
        check_asked(self.pages, steps, (), ())
        start = start_state(nonce, self._filled()[1].root)
        checkpoints = follow(self._words(), self._word_count, start, steps)
        self._chase = (steps, [start, *np.frombuffer(checkpoints, np.dtype("<u8")).tolist()])
        return checkpoints

    def show(self, pages: Sequence[int], segments: Sequence[int]) -> bytes:
        """The document that opens these pages and these segments of the last chase (``verify_shown``).

        Raises:
            AdmissionError: there is no such page or segment, or nothing is filled or chased.
        """
        steps, checkpoints = self._chase
        if not steps:
            raise AdmissionError("The memory is to be shown before it was chased; measure again.")
        check_asked(self.pages, steps, pages, segments)
        opened = [self._opened_segment(checkpoints[segment], segment_steps(steps, segment)) for segment in segments]
        return msgspec.msgpack.encode(Shown(pages=[self._opened_page(page) for page in pages], segments=opened))

    def release(self) -> None:
        """Give the memory back; a fill that is under way in another thread ends soon."""
        self._let_go.set()
        self._store = self._tree = None

    def _fill_lane(self, index: int, leaves: bytearray, meter: _Meter) -> None:
        lane, tail = Lane(self._seed, index), b""
        for page in range(lane.first_page, min(lane.first_page + LANE_PAGES, self.pages)):
            store = self._store
            if store is None or self._let_go.is_set():
                raise AdmissionError("The memory was released while it was being filled.")
            data = lane.make(store.gather(lane.sources(page, tail)), tail) if tail else lane.first()
            store.write(page, data)
            leaves[page * _PAGE_LEAVES : (page + 1) * _PAGE_LEAVES] = b"".join(chunk_digests(data))
            tail = data[-1, -BLOCK_BYTES // 8 :].tobytes()
            meter.count()

    @property
    def _word_count(self) -> int:
        return self.pages * PAGE_BYTES // 8

    def _filled(self) -> tuple[PageStore, MerkleTree]:
        if self._store is None or self._tree is None:
            raise AdmissionError("No memory is filled, or it was released; measure again.")
        return self._store, self._tree

    def _words(self) -> Words:
        """The filled memory, word by word. Cheaters of the tests hold less and put something else here."""
        return self._filled()[0].words

    def _opened_chunk(self, chunk: int) -> OpenedChunk:
        store, tree = self._filled()
        return OpenedChunk(store.gather(np.array([chunk])).tobytes(), b"".join(tree.proof(chunk)))

    def _opened_page(self, page: int) -> OpenedPage:
        lane = Lane(self._seed, page // LANE_PAGES)
        proof = b"".join(self._filled()[1].proof(page * PAGE_CHUNKS)[_PAGE_LEVELS:])
        if page == lane.first_page:
            return OpenedPage(proof, None, [])
        before = self._opened_chunk(page * PAGE_CHUNKS - 1)
        sources = lane.sources(page, before.data[-BLOCK_BYTES:]).tolist()
        return OpenedPage(proof, before, [self._opened_chunk(chunk) for chunk in sources])

    def _opened_segment(self, state: int, steps: int) -> list[OpenedChunk]:
        noted = _NotedWords(self._words())
        walk(noted, self._word_count, state, steps)
        return [self._opened_chunk(word // CHUNK_WORDS) for word in noted.read]


class _NotedWords:
    """Words that remember which of them were read."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.read: list[int] = []

    def __getitem__(self, index: int, /) -> int:
        self.read.append(index)
        return self._words[index]


class _Meter:
    """Counts pages over all threads and tells about a hundred times how many of them are done."""

    def __init__(self, pages: int, tell: Callable[[float], None] | None) -> None:
        self._pages = pages
        self._every = max(1, pages // 100)
        self._tell = tell
        self._done = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self._done += 1
            if self._tell is not None and (self._done % self._every == 0 or self._done == self._pages):
                self._tell(self._done / self._pages)
