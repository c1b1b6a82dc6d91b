"""The right edge of a log: enough to append to it and to know its root, without the rest (a "compact range").

For whoever streams through a log to check its head: 32 bytes for each one in the size's binary digits, 2 KiB at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from gridllm.errors import LedgerError
from gridllm.ledger.log.tree import EMPTY_ROOT, NodeSource, check_size, parents
from gridllm.merkle import DIGEST_BYTES, node_digest

_SIZE_BYTES: Final = 8  # big-endian, before the digests


class Frontier:
    """The complete subtrees that a log consists of: from left to right, each smaller than the one before."""

    def __init__(self) -> None:
        """Of an empty log."""
        self._edge: list[bytes] = []  # by level: the hash of the subtree of 2^level leaves, or b"" where there is none
        self._size = 0

    @classmethod
    def at(cls, size: int, node: NodeSource) -> Self:
        """The edge of the first ``size`` leaves of a log that is held elsewhere.

        Raises:
            LedgerError: no such size, or ``node`` lacks a hash.
        """
        check_size(size)
        frontier = cls()
        frontier._size = size
        # Left of the subtree at a level stand whole larger ones: its index is what the higher digits spell, times two.
        for level in range(size.bit_length()):
            frontier._edge.append(node(level, (size >> level) - 1) if size >> level & 1 else b"")
        return frontier

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """What ``to_bytes`` gave; that its digests belong to some log, only a comparison of roots tells.

        Raises:
            LedgerError: not of that form.
        """
        size = int.from_bytes(raw[:_SIZE_BYTES], "big")
        if len(raw) != _SIZE_BYTES + size.bit_count() * DIGEST_BYTES:
            raise LedgerError(f"{len(raw)} bytes are not the right edge of a log of {size} entries.")
        check_size(size)
        frontier, end = cls(), len(raw)
        frontier._size = size
        for level in range(size.bit_length()):
            held = DIGEST_BYTES if size >> level & 1 else 0
            frontier._edge.append(raw[end - held : end])
            end -= held
        return frontier

    def to_bytes(self) -> bytes:
        """The size in 8 bytes, big-endian, then the subtrees' digests from left to right."""
        return self._size.to_bytes(_SIZE_BYTES, "big") + b"".join(reversed(self._edge))

    @property
    def size(self) -> int:
        """How many leaves were appended."""
        return self._size

    def append(self, digest: bytes) -> None:
        """One leaf more, by its digest (``leaf_digest``).

        Raises:
            LedgerError: not 32 bytes.
        """
        self.extend([digest])

    def extend(self, digests: Sequence[bytes]) -> None:
        """More leaves, by their digests: one hash for each.

        Raises:
            LedgerError: one is not 32 bytes; nothing is appended.
        """
        run, level = joined(digests), 0
        while run:
            if level == len(self._edge):
                self._edge.append(b"")
            run = self._edge[level] + run
            whole = len(run) - len(run) % (2 * DIGEST_BYTES)
            self._edge[level] = run[whole:]
            run, level = parents(run[:whole]), level + 1
        self._size += len(digests)

    def root(self) -> bytes:
        """The root of what was appended, 32 bytes."""
        root = b""
        for digest in self._edge:
            root = node_digest(digest, root) if digest and root else digest or root
        return root or EMPTY_ROOT


def joined(digests: Sequence[bytes]) -> bytes:
    """``digests`` in a row.

    Raises:
        LedgerError: one is not 32 bytes.
    """
    for digest in digests:
        if len(digest) != DIGEST_BYTES:
            raise LedgerError(f"The digest of an entry has {DIGEST_BYTES} bytes, not {len(digest)}.")
    return b"".join(digests)
