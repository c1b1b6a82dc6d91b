"""The path through a filled memory: each step goes where the last one's word says. Both sides walk it alike."""

from __future__ import annotations

import hashlib
from array import array
from typing import Final, Protocol

SEGMENT_STEPS: Final = 16  # from one checkpoint to the next
CHECKPOINT_BYTES: Final = 8  # little-endian
_ODD: Final = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio
_MASK: Final = 2**64 - 1


class Words(Protocol):
    """The memory as 64-bit words, read one at a time."""

    def __getitem__(self, index: int, /) -> int:
        """Word ``index`` as an unsigned number."""
        ...


def segment_count(steps: int) -> int:
    """Segments, hence checkpoints, of a chase of ``steps``; the last may be shorter."""
    return -(-steps // SEGMENT_STEPS)


def segment_steps(steps: int, segment: int) -> int:
    """How many of ``steps`` fall into ``segment``."""
    return min(SEGMENT_STEPS, steps - segment * SEGMENT_STEPS)


def start_state(nonce: bytes, root: bytes) -> int:
    """Where a chase begins: known to nobody before the fill was committed to and the nonce was sent."""
    return int.from_bytes(hashlib.sha256(b"gridllm chase v1\0" + nonce + root).digest()[:8], "little")


def walk(words: Words, count: int, state: int, steps: int) -> int:
    """``steps`` steps from ``state`` through ``count`` words, one after the other."""
    for _ in range(steps):
        state = ((state ^ words[state % count]) * _ODD) & _MASK
        state ^= state >> 29
    return state


def earlier_checkpoint(state: int, known: int) -> int:
    """Which of the first ``known`` checkpoints (0: the start) goes into the one that ends at ``state``."""
    return state % known


def checkpoint(state: int, earlier: int) -> int:
    """The checkpoint after a walk that ended at ``state``, with an earlier one mixed in."""
    state = ((state ^ earlier) * _ODD) & _MASK
    return state ^ (state >> 29)


def follow(words: Words, count: int, start: int, steps: int) -> bytes:
    """The checkpoints of a whole chase, the start left out: ``CHECKPOINT_BYTES`` for each segment."""
    seen = array("Q", [start])
    state = start
    for segment in range(segment_count(steps)):
        state = walk(words, count, state, segment_steps(steps, segment))
        state = checkpoint(state, seen[earlier_checkpoint(state, len(seen))])
        seen.append(state)
    return b"".join(state.to_bytes(CHECKPOINT_BYTES, "little") for state in seen[1:])
