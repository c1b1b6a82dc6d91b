"""How the pages of the memory proof are made from the seed. Why they are made so stands in ``memory.py``.

Pages stand in lanes of ``LANE_PAGES``. A lane's first page is a key stream. Each later one is made of 64 chunks of
earlier pages of its lane, chosen by the last bytes of the page before it: their blocks are dealt out like cards, folded
six times so that every block holds one block of each chunk, encrypted in CBC mode, and joined with what went in.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from gridllm.admission.proof.seeds import key_stream, sub_seed
from gridllm.errors import AdmissionError

CHUNK_BYTES: Final = 4096  # a leaf of the Merkle tree
PAGE_CHUNKS: Final = 64  # chunks of a page, and chunks that a page is made of
PAGE_BYTES: Final = PAGE_CHUNKS * CHUNK_BYTES
LANE_PAGES: Final = 1024  # 256 MiB: lanes are filled side by side, so smaller ones keep more threads busy
BLOCK_BYTES: Final = 16  # of AES
CHUNK_WORDS: Final = CHUNK_BYTES // 8
MAX_MEMORY_BYTES: Final = 2**50

_FOLDS: Final = (1, 322, 1476, 4552, 8400, 12640)
"""Distances in blocks: 1, 2, 4 … 32 modulo 64, so that their 64 sums reach all 64 chunks, and far from each other."""

Chunks: TypeAlias = NDArray[np.uint64]
"""Chunks as words: [chunks, 512], little-endian."""


def page_count(nbytes: int) -> int:
    """Pages that hold ``nbytes``, the last one in full.

    Raises:
        AdmissionError: no such amount of memory is asked for.
    """
    if not 0 < nbytes <= MAX_MEMORY_BYTES:
        raise AdmissionError(f"A memory of {nbytes} bytes cannot be proven; ask for 1 to {MAX_MEMORY_BYTES}.")
    return -(-nbytes // PAGE_BYTES)


class Lane:
    """Makes the pages of one lane. Holds half a megabyte of scratch; for one thread at a time."""

    def __init__(self, seed: bytes, index: int) -> None:
        """``seed``: of the memory; ``index``: 0 for the pages 0 … ``LANE_PAGES`` - 1."""
        self.first_page = index * LANE_PAGES
        self._seed = sub_seed(seed, "memory lane", index)
        self._key = algorithms.AES(sub_seed(self._seed, "memory key")[:16])
        self._plain = np.empty(PAGE_BYTES // 8, np.dtype("<u8"))
        self._folded = np.empty_like(self._plain)
        self._cipher = np.empty(PAGE_BYTES // 8 + 2, np.dtype("<u8"))  # update_into wants a block more

    def first(self) -> Chunks:
        """The lane's first page, which no other goes into."""
        return np.frombuffer(key_stream(self._seed, PAGE_BYTES), np.dtype("<u8")).reshape(PAGE_CHUNKS, CHUNK_WORDS)

    def sources(self, page: int, tail: bytes) -> NDArray[np.int64]:
        """Which chunks of the whole memory ``page`` is made of: [64], all in earlier pages of this lane.

        Args:
            page: its number in the whole memory; not the lane's first.
            tail: the last bytes of the page before it.
        """
        drawn = key_stream(hashlib.sha256(self._seed + tail[-BLOCK_BYTES:]).digest(), 8 * PAGE_CHUNKS)
        earlier = (page - self.first_page) * PAGE_CHUNKS
        chosen = np.frombuffer(drawn, np.dtype("<u8")) % np.uint64(earlier)
        return chosen.astype(np.int64) + self.first_page * PAGE_CHUNKS

    def fold(self, gathered: Chunks) -> NDArray[np.uint64]:
        """What is encrypted of these chunks ([64, 512], in the order of ``sources``): [32768] in scratch."""
        plain, folded = self._plain, self._folded
        dealt = plain.view("V16").reshape(CHUNK_BYTES // BLOCK_BYTES, PAGE_CHUNKS)
        dealt[...] = gathered.view("V16").reshape(PAGE_CHUNKS, CHUNK_BYTES // BLOCK_BYTES).T
        for turn, distance in enumerate(_FOLDS):
            words = distance * BLOCK_BYTES // 8
            mixed = np.bitwise_xor if turn % 2 else np.add  # in turn: the sum is linear in neither arithmetic
            mixed(plain[words:], plain[:-words], out=folded[words:])
            mixed(plain[:words], plain[-words:], out=folded[:words])
            plain, folded = folded, plain
        return plain

    def make(self, gathered: Chunks, tail: bytes) -> Chunks:
        """The page [64, 512], in scratch that the next call reuses.

        Args:
            gathered: what it is made of, [64, 512], in the order of ``sources``.
            tail: the last bytes of the page before it.
        """
        plain = self.fold(gathered)
        encryptor = Cipher(self._key, modes.CBC(tail[-BLOCK_BYTES:])).encryptor()
        encryptor.update_into(plain.data.cast("B"), self._cipher.data.cast("B"))
        page = np.bitwise_xor(self._cipher[: plain.size], plain, out=plain)  # fed forward: nobody decrypts his way back
        return page.reshape(PAGE_CHUNKS, CHUNK_WORDS)
