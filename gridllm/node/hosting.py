"""A span in memory with its engine, and the path there: choose, announce as joining, load, measure."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridllm.charter.document import ModelEntry
from gridllm.engine.runner import Engine
from gridllm.errors import GridError, ModelError, UsageError
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import BlockSize, block_size
from gridllm.node.memory import free_bytes, spell_size
from gridllm.node.presence import Presence
from gridllm.node.report import Report
from gridllm.node.sizing import check_fits, fitting_blocks, memory_to_take
from gridllm.node.source import Source
from gridllm.node.speed import measure_blocks_per_s
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import BlockRange, cache_tokens_beside, choose_span

log = logging.getLogger(__name__)

SETTLE_S: Final = 0.5  # for announcements of nodes that start at the same moment to reach each other
SETTLE_TIMES: Final = 3.0  # what announcing took here, where that is longer: others' announcements take as long
SETTLE_ROUNDS: Final = 4
MIN_CACHE_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Hosting:
    """Blocks in memory, ready to serve."""

    engine: Engine
    blocks_per_s: float
    manifest: Manifest  # of the whole model
    folder: Path  # the span's files, perhaps more

    @property
    def span(self) -> BlockRange:
        """The blocks."""
        return self.engine.span.start, self.engine.span.end


class _LoadingStopped(Exception):
    """The volunteer stopped while a thread was loading; never shown."""


async def prepare(
    entry: ModelEntry,
    manifest: Manifest,
    wishes: Wishes,
    presence: Presence,
    report: Report,
    target: BlockRange | None = None,
    beside_bytes: int = 0,
) -> Hosting:
    """Choose blocks (or take ``target``), announce them as joining, load them and start their engine.

    Args:
        beside_bytes: of free memory, to be left for the blocks that the node is measured with while it serves. Where
            only one block fits at all, it is loaded all the same, and the margin must do.

    Raises:
        UsageError: the blocks asked for do not exist or do not fit into memory.
        ModelError: the weights cannot be found, are another model's, or no library here can load them.
        SwarmError: the grid does not answer.
    """
    gc.collect()  # modules refer to one another in circles; a span given up may still be in memory
    size = block_size(manifest, wishes.dtype)
    memory_bytes = await _memory_to_use(size, wishes, beside_bytes)
    presence.state, presence.since, presence.blocks_per_s, presence.engine = "joining", time.time(), 0.0, None
    if target is None:
        target = await _settle(entry.blocks, size, memory_bytes, wishes, presence)
    presence.span = target
    await presence.announce()
    folder = wishes.folder
    if folder is None:
        report.phase(f"Getting the files of blocks {target[0]}:{target[1]} of {entry.name}")
        source = Source(
            presence.swarm, entry, manifest, presence.seeds, wishes.cache_dir, report.loading, wishes.borrowing
        )
        folder = await source.folder(target)
    report.phase(f"Loading blocks {target[0]}:{target[1]} of {entry.name} as {wishes.dtype}")
    fault = ""
    try:
        hosting = await _load(folder, manifest, target, memory_bytes, wishes, report)
    except (GridError, _LoadingStopped):
        raise
    except Exception as error:  # of a library: a stranger's model ends no node, which has another one to serve
        log.exception("Blocks %s:%s of %s cannot be loaded", *target, entry.name)
        fault = f"{entry.name} cannot be loaded here ({type(error).__name__}: {str(error)[:300]})."
    if fault:  # out here, where nothing holds what was loaded of it
        raise ModelError(fault)
    presence.blocks_per_s, presence.engine = hosting.blocks_per_s, hosting.engine
    return hosting


async def check_room(entry: ModelEntry, manifest: Manifest, wishes: Wishes, beside_bytes: int = 0) -> None:
    """Check that ``prepare`` would find room now: before an examination that takes long and would be for nothing.

    Raises:
        UsageError: the blocks asked for do not exist or do not fit into memory.
    """
    size = block_size(manifest, wishes.dtype)
    _capacity(entry.blocks, size, await _memory_to_use(size, wishes, beside_bytes), wishes)


async def expected_span(
    entry: ModelEntry, manifest: Manifest, wishes: Wishes, presence: Presence, old: Hosting | None
) -> BlockRange:
    """About the blocks that ``prepare`` would choose if the memory of ``old`` were free.

    Raises:
        UsageError: they do not fit, even so.
        SwarmError: the grid does not answer.
    """
    size, held = block_size(manifest, wishes.dtype), 0
    if old is not None:
        budget, span = old.engine.budget, old.engine.span
        held = span.held_bytes + (budget.total - budget.free) * span.bytes_per_token
    free = await asyncio.to_thread(free_bytes, wishes.device) + held
    memory_bytes = free if wishes.memory_bytes is None else min(free, wishes.memory_bytes)
    capacity = _capacity(entry.blocks, size, memory_bytes, wishes)
    return wishes.blocks or choose_span(await presence.others(), entry.blocks, capacity, presence.record().peer)


async def _memory_to_use(size: BlockSize, wishes: Wishes, beside_bytes: int) -> int:
    free = await asyncio.to_thread(free_bytes, wishes.device)
    memory_bytes = memory_to_take(free, beside_bytes, size, wishes.cache_tokens)
    return memory_bytes if wishes.memory_bytes is None else min(memory_bytes, wishes.memory_bytes)


def _capacity(blocks: int, size: BlockSize, memory_bytes: int, wishes: Wishes) -> int:
    """How many blocks fit, those that were asked for among them. Raises UsageError."""
    if wishes.blocks is None:
        return fitting_blocks(size, blocks, memory_bytes, wishes.cache_tokens)
    start, end = wishes.blocks
    if not 0 <= start < end <= blocks:
        raise UsageError(f"The model has blocks 0:{blocks}; {start}:{end} are not among them.")
    check_fits(wishes.blocks, size, memory_bytes, wishes.cache_tokens)
    return end - start


async def _settle(blocks: int, size: BlockSize, memory_bytes: int, wishes: Wishes, presence: Presence) -> BlockRange:
    """The span asked for, or the one the grid needs most, agreed with whoever starts at the same moment."""
    capacity = _capacity(blocks, size, memory_bytes, wishes)
    if wishes.blocks is not None:
        return wishes.blocks
    peer = presence.record().peer
    span = choose_span(await presence.others(), blocks, capacity, peer, presence.since)
    presence.since = time.time()  # whoever is earlier chooses first, and must be seen by those who come after it
    for _ in range(SETTLE_ROUNDS if capacity < blocks else 0):
        presence.span = span
        began = time.monotonic()
        await presence.announce()
        await asyncio.sleep(settle_s(time.monotonic() - began))
        again = choose_span(await presence.others(), blocks, capacity, peer, presence.since)
        if again == span:
            break
        span = again
    return span


def settle_s(announcing_s: float) -> float:
    """How long to wait for others' announcements, when one's own took ``announcing_s``."""
    return max(SETTLE_S, SETTLE_TIMES * announcing_s)


async def _load(
    folder: Path,
    manifest: Manifest,
    span: BlockRange,
    memory_bytes: int,
    wishes: Wishes,
    report: Report,
) -> Hosting:
    import torch

    from gridllm.engine.attention import RAGGED, register
    from gridllm.engine.selfcheck import verify_batching
    from gridllm.models.span import load_span

    register()
    stopped = False

    def progress(done: int, total: int) -> None:
        if stopped:
            raise _LoadingStopped
        report.loading(done, total)

    loading = asyncio.create_task(
        asyncio.to_thread(
            load_span,
            folder,
            manifest,
            *span,
            dtype=getattr(torch, wishes.dtype),
            device=wishes.device,
            attn=RAGGED,
            progress=progress,
        )
    )
    try:
        loaded = await asyncio.shield(loading)
    except asyncio.CancelledError:
        stopped = True  # a thread cannot be cancelled: it ends at the next tensor
        await asyncio.wait([loading])
        if not loading.cancelled():
            loading.exception()
        raise
    tokens = wishes.cache_tokens or cache_tokens_beside(
        memory_bytes, loaded.held_bytes, loaded.bytes_per_token, blocks=1
    )
    report.phase("Checking and measuring it")
    await asyncio.to_thread(verify_batching, loaded)
    blocks_per_s = await measure_blocks_per_s(loaded)
    log.info("Loaded blocks %s:%s, %s of weights", *span, spell_size(loaded.held_bytes))
    engine = Engine(loaded, cache_tokens=max(tokens, MIN_CACHE_TOKENS))
    engine.start()
    return Hosting(engine, blocks_per_s, manifest, folder)
