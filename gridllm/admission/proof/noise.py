"""Bytes that fill a transfer: made as they are sent, incompressible, and checked by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gridllm.admission.messages import BULK_CHUNK_BYTES
from gridllm.admission.proof.seeds import sub_seed

UPLOAD: Final = "upload"  # from the challenge's seed and the question: both sides know the bytes, once it is asked
DOWNLOAD: Final = "download"  # from a seed that only the authority knows: the digest proves that they arrived


def noise(seed: bytes, purpose: str, nbytes: int) -> Iterator[bytes]:
    """``nbytes`` pseudo-random bytes in chunks of at most ``BULK_CHUNK_BYTES``."""
    key = sub_seed(seed, purpose, nbytes)
    cipher = Cipher(algorithms.AES(key[:16]), modes.CTR(key[16:])).encryptor()
    for at in range(0, nbytes, BULK_CHUNK_BYTES):
        yield cipher.update(bytes(min(BULK_CHUNK_BYTES, nbytes - at)))


def noise_digest(seed: bytes, purpose: str, nbytes: int) -> bytes:
    """SHA-256 over all of it."""
    digest = hashlib.sha256()
    for part in noise(seed, purpose, nbytes):
        digest.update(part)
    return digest.digest()
