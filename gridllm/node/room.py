"""How two models' spans share one node's memory while it goes over from one to the other."""

from __future__ import annotations

from collections.abc import Callable

from gridllm.charter.document import ModelEntry
from gridllm.errors import UsageError
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import block_size
from gridllm.node.hosting import Hosting
from gridllm.node.sizing import check_fits, fitting_blocks
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import USUAL_CACHE_TOKENS, cache_tokens_beside

KEPT_TOKENS = USUAL_CACHE_TOKENS  # of the old model's caches: for its sessions to grow, and new ones until it goes


def room_beside(
    old: Hosting, old_blocks: int, entry: ModelEntry, manifest: Manifest, wishes: Wishes, free: int
) -> int | None:
    """Bytes that a span of ``entry`` may take beside ``old``; None where that is too little.

    It is enough when as large a part of the new model fits as this node serves of the old: less from every node, and
    the new model would have gaps.

    Args:
        old_blocks: of the whole old model.
        wishes: for the new model.
        free: bytes of memory that are free now. What the old caches do not hold yet is among them.
    """
    budget, span = old.engine.budget, old.engine.span
    kept = min(budget.free, KEPT_TOKENS)
    room = free - kept * span.bytes_per_token
    if wishes.memory_bytes is not None:
        used = budget.total - budget.free + kept
        room = min(room, wishes.memory_bytes - span.held_bytes - used * span.bytes_per_token)
    size = block_size(manifest, wishes.dtype)
    start, end = old.span
    least = -(-entry.blocks * (end - start) // old_blocks)
    try:
        if wishes.blocks is not None:
            check_fits(wishes.blocks, size, room, wishes.cache_tokens)
            return room
        fit = fitting_blocks(size, entry.blocks, room, wishes.cache_tokens)
    except UsageError:
        return None
    return room if fit >= least else None


def lend_room(old: Hosting) -> Callable[[], None]:
    """Take from the old model's caches what they neither hold nor keep; returns what gives it back."""
    budget = old.engine.budget
    lent = max(0, budget.free - KEPT_TOKENS)
    budget.resize(budget.total - lent)
    return lambda: budget.resize(budget.total + lent)


def take_room_back(hosting: Hosting, wishes: Wishes, free: int) -> None:
    """Let caches have what another model's span took; ``free`` bytes of memory are free now."""
    budget, span = hosting.engine.budget, hosting.engine.span
    memory = free + span.held_bytes + (budget.total - budget.free) * span.bytes_per_token
    if wishes.memory_bytes is not None:
        memory = min(memory, wishes.memory_bytes)
    tokens = wishes.cache_tokens or cache_tokens_beside(memory, span.held_bytes, span.bytes_per_token, blocks=1)
    budget.resize(max(budget.total, tokens))
