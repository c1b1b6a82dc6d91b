"""Which blocks a node takes: as many as fit, where the grid needs them most."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from gridllm.ids import PeerId
from gridllm.planning.coverage import supply
from gridllm.wire.record import NodeRecord

BlockRange = tuple[int, int]  # half-open, as numbered in the whole model

SAFETY_SHARE: Final = 0.1  # of free memory, left to the system and to what we did not foresee
PASS_BYTES: Final = 64 * 2**20  # activations of one forward pass, and the allocator's slack
USUAL_CACHE_TOKENS: Final = 8192  # room for caches that a node without --cache-tokens keeps at least
MAX_CACHE_TOKENS: Final = 65_536  # more than a few dozen volunteers' chats need on one node


def capacity_blocks(
    free_bytes: int,
    block_bytes: int,
    cache_bytes_per_token_per_block: int,
    *,
    blocks: int,
    cache_tokens: int = USUAL_CACHE_TOKENS,
    overhead_bytes: int = PASS_BYTES,
) -> int:
    """How many blocks fit into ``free_bytes`` beside their KV caches and a margin; 0 if none, at most ``blocks``."""
    usable = _usable(free_bytes, overhead_bytes)
    per_block = block_bytes + cache_tokens * cache_bytes_per_token_per_block
    return max(0, min(blocks, usable // max(per_block, 1)))


def cache_tokens_beside(
    free_bytes: int,
    block_bytes: int,
    cache_bytes_per_token_per_block: int,
    *,
    blocks: int,
    overhead_bytes: int = PASS_BYTES,
) -> int:
    """Tokens of KV cache that fit beside the weights of ``blocks`` blocks, at most ``MAX_CACHE_TOKENS``."""
    left = _usable(free_bytes, overhead_bytes) - blocks * block_bytes
    return max(0, min(MAX_CACHE_TOKENS, left // max(blocks * cache_bytes_per_token_per_block, 1)))


def bytes_needed(
    blocks: int,
    block_bytes: int,
    cache_bytes_per_token_per_block: int,
    *,
    cache_tokens: int = USUAL_CACHE_TOKENS,
    overhead_bytes: int = PASS_BYTES,
) -> int:
    """Free memory at which ``capacity_blocks`` reaches ``blocks``: what to tell a person who has too little."""
    weights_and_caches = blocks * (block_bytes + cache_tokens * cache_bytes_per_token_per_block)
    return int((weights_and_caches + overhead_bytes) / (1 - SAFETY_SHARE)) + 1


def choose_span(
    records: Iterable[NodeRecord], blocks: int, capacity: int, peer: PeerId, since: float | None = None
) -> BlockRange:
    """The contiguous ``capacity`` blocks that the grid needs most; all of them when they fit.

    Windows are compared by their least-served block first, then the next, so a gap wins over everything. Among equals
    only windows that tile the equally served stretch count (else three nodes of a third each would overlap and leave
    holes), and a hash of the peer id picks one of them.

    Args:
        records: announcements of this model; ``peer``'s own is left out.
        since: when this node started (the ``since`` of its own record). Nodes that started later and still load are
            left out: of several that start together, the earliest chooses first, and each later one around it.

    Raises:
        ValueError: ``capacity`` or ``blocks`` is below 1.
    """
    if capacity < 1 or blocks < 1:
        raise ValueError(f"cannot choose {capacity} of {blocks} blocks")
    if capacity >= blocks:
        return 0, blocks
    others = [record for record in records if record.peer != peer and not _chooses_after(record, peer, since)]
    served = supply(others, blocks)
    starts = _neediest_windows(served, capacity)
    start = starts[_draw(peer, len(starts))]
    return start, start + capacity


def _usable(free_bytes: int, overhead_bytes: int) -> int:
    return int(free_bytes * (1 - SAFETY_SHARE)) - overhead_bytes


def _chooses_after(record: NodeRecord, peer: PeerId, since: float | None) -> bool:
    return since is not None and record.state == "joining" and (record.since, record.peer) > (since, peer)


def _neediest_windows(served: Sequence[float], size: int) -> list[int]:
    """Starts of the windows that are served worst, thinned to those that tile each stretch of equally good ones."""
    keys = [
        sorted(round(value, 6) for value in served[start : start + size]) for start in range(len(served) - size + 1)
    ]
    worst = min(keys)
    chosen: list[int] = []
    run: list[int] = []
    for start, key in enumerate([*keys, None]):
        if key == worst:
            run.append(start)
        elif run:
            chosen += sorted({*run[::size], run[-1]})
            run = []
    return chosen


def _draw(peer: PeerId, options: int) -> int:
    """A number below ``options`` that depends on the peer alone, so that nodes in the same place choose differently."""
    digest = hashlib.sha256(b"gridllm placement " + peer.encode()).digest()
    return int.from_bytes(digest[:8], "big") % options
