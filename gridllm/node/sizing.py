"""How many of a model's blocks this node takes."""

from __future__ import annotations

from gridllm.errors import UsageError
from gridllm.models.sizes import BlockSize
from gridllm.node.memory import spell_size
from gridllm.planning.placement import USUAL_CACHE_TOKENS, BlockRange, bytes_needed, capacity_blocks


def memory_to_take(free: int, beside_bytes: int, size: BlockSize, cache_tokens: int | None) -> int:
    """Of ``free`` bytes those for span and caches: all but ``beside_bytes``, if that leaves one block."""
    tokens = USUAL_CACHE_TOKENS if cache_tokens is None else cache_tokens
    one = bytes_needed(1, size.weight_bytes, size.cache_bytes_per_token, cache_tokens=tokens)
    return max(free - beside_bytes, min(free, one))


def fitting_blocks(size: BlockSize, blocks: int, memory_bytes: int, cache_tokens: int | None) -> int:
    """How many blocks this node can take.

    Raises:
        UsageError: not even one.
    """
    tokens = USUAL_CACHE_TOKENS if cache_tokens is None else cache_tokens
    fit = capacity_blocks(
        memory_bytes, size.weight_bytes, size.cache_bytes_per_token, blocks=blocks, cache_tokens=tokens
    )
    if fit < 1:
        raise UsageError(f"Not one block fits: {_shortage(1, size, memory_bytes, tokens)}")
    return fit


def check_fits(span: BlockRange, size: BlockSize, memory_bytes: int, cache_tokens: int | None) -> None:
    """Check a span that was asked for by number.

    Raises:
        UsageError: it does not fit into ``memory_bytes`` with room for caches.
    """
    wanted = span[1] - span[0]
    tokens = min(USUAL_CACHE_TOKENS, 1024) if cache_tokens is None else cache_tokens
    fit = capacity_blocks(
        memory_bytes, size.weight_bytes, size.cache_bytes_per_token, blocks=wanted, cache_tokens=tokens
    )
    if fit < wanted:
        raise UsageError(f"Blocks {span[0]}:{span[1]} do not fit: {_shortage(wanted, size, memory_bytes, tokens)}")


def _shortage(wanted: int, size: BlockSize, memory_bytes: int, tokens: int) -> str:
    needed = bytes_needed(wanted, size.weight_bytes, size.cache_bytes_per_token, cache_tokens=tokens)
    subject = "one block needs" if wanted == 1 else f"{wanted} blocks need"
    return (
        f"{subject} {spell_size(needed)} with room for {tokens} cached tokens and a margin, and "
        f"{spell_size(memory_bytes)} may be used; free some, raise --memory, or lower --cache-tokens or --blocks."
    )
