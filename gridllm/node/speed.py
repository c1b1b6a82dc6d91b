"""How fast this node decodes: measured through its own engine, before it announces itself."""

from __future__ import annotations

import asyncio
import statistics
from typing import Final

import torch

from gridllm.engine.runner import Engine, Work
from gridllm.errors import NodeFault
from gridllm.models.span import Span
from gridllm.wire.messages import RowSlice

WARM_UP: Final = 2  # the first passes allocate
LEAST: Final = 3
MOST: Final = 24
ENOUGH_S: Final = 0.5


async def measure_blocks_per_s(span: Span) -> float:
    """Blocks a second that one token of one session passes through: the median over about half a second.

    Raises:
        NodeFault: the span does not compute.
    """
    engine = Engine(span, cache_tokens=256)  # of its own, so that the node's counters start from zero
    engine.start()
    try:
        session = engine.open_session(1, span.start, span.end)
        hidden = (0.1 * torch.randn(1, span.hidden_size)).to(span.dtype)
        times_s: list[float] = []
        loop = asyncio.get_running_loop()
        while len(times_s) < LEAST + WARM_UP or (len(times_s) < MOST and sum(times_s) < ENOUGH_S):
            finished: asyncio.Future[Work] = loop.create_future()
            slices = [RowSlice(row=0, source=0, position=len(times_s), tokens=1, keep=1)]
            engine.reserve(session, slices)
            engine.submit(session, slices, hidden, finished.set_result)
            work = await finished
            if work.error is not None:
                raise work.error if isinstance(work.error, NodeFault) else NodeFault(str(work.error))
            times_s.append(max(work.compute_s, 1e-6))
        return (span.end - span.start) / statistics.median(times_s[WARM_UP:])
    finally:
        await engine.stop()
