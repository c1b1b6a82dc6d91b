"""A Merkle tree over leaves held elsewhere, hashed as in RFC 9162 (section 2.1): SHA-256, leaf and node told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from gridllm.errors import AdmissionError
from gridllm.merkle import DIGEST_BYTES, node_digest


class MerkleTree:
    """All levels in memory, 64 bytes for each leaf."""

    def __init__(self, leaves: Iterable[bytes | bytearray]) -> None:
        """``leaves``: their digests (``leaf_digest``), at least one; several may come joined."""
        level = bytearray().join(leaves)
        if not level:
            raise AdmissionError("A Merkle tree needs at least one leaf.")
        self._levels = [level]
        while len(level) > DIGEST_BYTES:
            pairs = len(level) // (2 * DIGEST_BYTES)
            above = bytearray()
            for pair in range(pairs):
                at = pair * 2 * DIGEST_BYTES
                above += hashlib.sha256(b"\1" + level[at : at + 2 * DIGEST_BYTES]).digest()
            above += level[pairs * 2 * DIGEST_BYTES :]  # the odd one out moves up as it is
            level = above
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """What is committed to."""
        return bytes(self._levels[-1])

    def __len__(self) -> int:
        return len(self._levels[0]) // DIGEST_BYTES

    def proof(self, index: int) -> list[bytes]:
        """Digests beside the way from leaf ``index`` up to the root."""
        path = []
        for level in self._levels[:-1]:
            sibling = (index ^ 1) * DIGEST_BYTES
            if sibling < len(level):
                path.append(bytes(level[sibling : sibling + DIGEST_BYTES]))
            index //= 2
        return path


def verify_inclusion(root: bytes, leaves: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> None:
    """Check that the leaf of digest ``leaf`` stands at ``index`` among ``leaves`` under ``root``.

    Raises:
        AdmissionError: it does not.
    """
    digest, width, at, steps = leaf, leaves, index, iter(proof)
    if not 0 <= index < leaves:
        raise AdmissionError(f"Leaf {index} is not among the {leaves} that were committed to.")
    while width > 1:
        if at ^ 1 < width:
            beside = next(steps, b"")
            digest = node_digest(beside, digest) if at & 1 else node_digest(digest, beside)
        at, width = at // 2, (width + 1) // 2
    if digest != root or next(steps, None) is not None:
        raise AdmissionError(f"Leaf {index} is not what was committed to.")
