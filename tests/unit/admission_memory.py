"""A small filled and chased memory, and cheaters that hold less than they say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gridllm.admission.proof.chase import Words
from gridllm.admission.proof.memory import HeldMemory, verify_shown
from gridllm.admission.proof.pages import BLOCK_BYTES, CHUNK_WORDS, LANE_PAGES, PAGE_BYTES, PAGE_CHUNKS, Chunks, Lane

SEED = b"s" * 32
NONCE = b"n" * 32


@dataclass(frozen=True)
class Proof:
    """What was asked, and what came back."""

    root: bytes
    checkpoints: bytes
    document: bytes
    nbytes: int = 4 * PAGE_BYTES
    steps: int = 100
    pages: tuple[int, ...] = (0, 3)
    segments: tuple[int, ...] = (0, 5, 6)  # 6: the last, of four steps
    seed: bytes = SEED
    nonce: bytes = NONCE

    def verify(self, **changed: object) -> None:
        """Verify it as it is, or with something changed."""
        asked = replace(self, **changed)  # type: ignore[arg-type]
        verify_shown(
            asked.document,
            seed=asked.seed,
            nbytes=asked.nbytes,
            root=asked.root,
            nonce=asked.nonce,
            steps=asked.steps,
            checkpoints=asked.checkpoints,
            pages=asked.pages,
            segments=asked.segments,
        )


def prove(held: HeldMemory, like: Proof = Proof(b"", b"", b"")) -> Proof:
    """Fill, chase and show, as ``like`` says."""
    root = held.fill()
    checkpoints = held.chase(like.nonce, like.steps)
    return replace(like, root=root, checkpoints=checkpoints, document=held.show(like.pages, like.segments))


class HalfHolder(HeldMemory):
    """Fills honestly, then keeps even pages and the tails of all, and makes odd pages again when a word of one is read.

    What it makes on the way it may keep until that word is read: more than it would really have room for.
    """

    made = 0  # pages made again

    def keep_half(self) -> None:
        """Forget every odd page."""
        store, _ = self._filled()
        self._tails = [self._tail(page) for page in range(self.pages)]
        for page in range(1, self.pages, 2):
            store.write(page, np.zeros((PAGE_CHUNKS, CHUNK_WORDS), np.uint64))

    def _tail(self, page: int) -> bytes:
        return self._filled()[0].gather(np.array([(page + 1) * PAGE_CHUNKS - 1])).tobytes()[-BLOCK_BYTES:]

    def _words(self) -> Words:
        return _MadeAgain(self)

    def page(self, page: int, again: dict[int, Chunks]) -> Chunks:
        """The page, held or made again from pages that are held or made again."""
        if page % 2 == 0:
            return self._filled()[0].gather(np.arange(page * PAGE_CHUNKS, (page + 1) * PAGE_CHUNKS))
        if page not in again:
            lane, tail = Lane(self._seed, page // LANE_PAGES), self._tails[page - 1]
            sources = lane.sources(page, tail).tolist()
            gathered = np.stack([self.page(at // PAGE_CHUNKS, again)[at % PAGE_CHUNKS] for at in sources])
            again[page] = lane.make(gathered, tail).copy()
            self.made += 1
        return again[page]


class _MadeAgain:
    def __init__(self, held: HalfHolder) -> None:
        self._held = held

    def __getitem__(self, index: int, /) -> int:
        page, word = divmod(index, PAGE_BYTES // 8)
        return int(self._held.page(page, {}).reshape(-1)[word])
