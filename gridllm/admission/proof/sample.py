"""How much of a model a candidate computes to show its speed. Without torch: a node keeps room for it."""

from __future__ import annotations

from typing import Final

ENOUGH_BYTES: Final = 64 * 1024**2  # of weights: more than processors cache, so that memory is measured too
MAX_BLOCKS: Final = 16


def sample_blocks(blocks: int, block_bytes: int) -> int:
    """How many of a model's blocks, each of ``block_bytes`` of weights.

    Nothing of it depends on what a candidate says of itself: with few enough blocks their weights would fit into its
    processor's cache, and it would seem faster than it can serve.
    """
    return max(1, min(blocks, MAX_BLOCKS, -(-ENOUGH_BYTES // max(block_bytes, 1))))


def sample_bytes(blocks: int, block_bytes: int) -> int:
    """Weights of these blocks: what a node that is measured while it serves must have beside its span."""
    return sample_blocks(blocks, block_bytes) * block_bytes
