"""How a Merkle tree is hashed here, whoever builds one: SHA-256 as in RFC 9162, section 2.1.1.

A leaf and an inner node are told apart by their first byte, so that neither can be passed off as the other.
"""

from __future__ import annotations

import hashlib
from typing import Final

DIGEST_BYTES: Final = 32  # of SHA-256


def leaf_digest(data: bytes | bytearray | memoryview) -> bytes:
    """Digest of one leaf: SHA-256 of a zero byte and ``data``; 32 bytes."""
    return hashlib.sha256(b"\0" + bytes(data)).digest()


def node_digest(left: bytes, right: bytes) -> bytes:
    """Digest of an inner node over two digests of 32 bytes each: SHA-256 of a one byte and both; 32 bytes."""
    return hashlib.sha256(b"\1" + left + right).digest()
