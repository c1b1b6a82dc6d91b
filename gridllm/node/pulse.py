"""A serving node's pulse, once a second, for whoever watches its terminal."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gridllm.engine.runner import Engine
from gridllm.node.counter.purse import Purse
from gridllm.node.report import Pulse, Report
from gridllm.node.service.service import NodeService

PULSE_S: Final = 1.0


async def beat(service: NodeService, engine: Engine, report: Report, purse: Purse | None = None) -> None:
    """Report for ever."""
    started = before_s = time.monotonic()
    before = engine.metrics()
    while True:
        await asyncio.sleep(PULSE_S)
        now_s, now = time.monotonic(), engine.metrics()
        earnings = purse.earnings if purse is not None else None
        report.pulse(
            Pulse(
                sessions=service.sessions,
                tokens_per_s=(now.tokens - before.tokens) / (now_s - before_s),
                tokens=now.tokens,
                mean_batch=now.mean_batch,
                free_tokens=now.free_tokens,
                total_tokens=now.total_tokens,
                uptime_s=now_s - started,
                earned=earnings.earned if earnings is not None else None,
                waiting=earnings.waiting if earnings is not None else 0,
            )
        )
        before_s, before = now_s, now
