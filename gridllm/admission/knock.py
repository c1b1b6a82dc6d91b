"""Dial-back: a second identity of the authority calls the candidate at its own addresses and asks for an answer."""

from __future__ import annotations

import hashlib
import weakref
from typing import Final

from gridllm.admission.messages import KNOCK_CALL
from gridllm.errors import Malformed
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm

NONCE_BYTES: Final = 32
_DOMAIN: Final = b"gridllm knock v1\0"

_answering: weakref.WeakSet[Swarm] = weakref.WeakSet()  # a swarm takes one handler for each call


def knock_answer(nonce: bytes) -> bytes:
    """What the candidate answers; who answers is proven by the connection's handshake."""
    return hashlib.sha256(_DOMAIN + nonce).digest()


async def answer_knocks(swarm: Swarm) -> None:
    """Answer dial-backs from now on; may be called again.

    Raises:
        SwarmError: the swarm is closed.
    """
    if swarm in _answering:
        return

    async def answer(_peer: PeerId, nonce: bytes) -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise Malformed(f"A knock has {NONCE_BYTES} bytes, not {len(nonce)}.")
        return knock_answer(nonce)

    await swarm.serve_calls(KNOCK_CALL, answer)
    _answering.add(swarm)
