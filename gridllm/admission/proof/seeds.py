"""Everything a challenge is made of comes from its seed: AES-CTR key streams, exact on every machine."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gridllm.ids import GridId, PeerId

_DOMAIN: Final = b"gridllm admission v1\0"


def challenge_seed(nonce: bytes, grid: GridId, authority: str, peer: PeerId) -> bytes:
    """The seed of one candidate's challenge by one authority: no other candidate's work fits it.

    Args:
        nonce: 32 random bytes, fresh for each challenge.
        authority: the maintainer's public key in hex.
    """
    named = "|".join((grid, authority, peer)).encode("ascii")
    return hashlib.sha256(_DOMAIN + nonce + named).digest()


def sub_seed(seed: bytes, purpose: str, index: int = 0) -> bytes:
    """An independent seed for one part of the challenge."""
    return hashlib.sha256(_DOMAIN + seed + purpose.encode("ascii") + index.to_bytes(8, "big")).digest()


def key_stream(seed: bytes, count: int) -> bytes:
    """``count`` pseudo-random bytes (AES-128 in counter mode, NIST SP 800-38A): gigabytes a second."""
    cipher = Cipher(algorithms.AES(seed[:16]), modes.CTR(seed[16:32])).encryptor()
    return cipher.update(bytes(count))
