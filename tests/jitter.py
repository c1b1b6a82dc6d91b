"""A pytest plugin that makes threads, pauses, commits and ways in memory take longer, at random: luck's tests fail.

Frames of one stream keep their order, and whoever reads finds all that was committed: these the code may rely on.

``make jitter``, or ``python -m pytest -p tests.jitter FILE``. ``JITTER_SEED`` chooses other delays, ``JITTER_S`` their
mean in seconds. A busy machine shows the same faults, but once in hundreds of runs. It takes twice as long as the tests
alone, so that it is no part of ``make test``.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy import Engine, event

from gridllm.swarm.memory import MemoryNetwork

MEAN_S: Final = float(os.environ.get("JITTER_S", "0.01"))
STALL_S: Final = 0.7  # once in
STALLS: Final = 150
FAR_S: Final = 0.05  # most that a way in memory takes longer: some tests' links are lost after a silence of 0.2 s
SEED: Final = int(os.environ.get("JITTER_SEED", "1"))


class Jitter:
    """Delays that follow from the seed and the test's name, as far as the order of its calls does."""

    def __init__(self) -> None:
        self.luck = random.Random(SEED)

    def next_s(self) -> float:
        if self.luck.random() < 1 / STALLS:
            return STALL_S
        return self.luck.expovariate(1 / MEAN_S) if self.luck.random() < 0.5 else 0.0


jitter: Final = Jitter()


def pytest_configure() -> None:
    """Before anything binds these names."""
    in_executor, sleep = asyncio.base_events.BaseEventLoop.run_in_executor, asyncio.sleep

    def run_in_executor(loop: Any, executor: Any, work: Callable[..., Any], *given: Any) -> Any:
        before, after = jitter.next_s(), jitter.next_s()

        def late() -> Any:
            time.sleep(before)
            try:
                return work(*given)
            finally:
                time.sleep(after)

        return in_executor(loop, executor, late)

    async def sleep_longer(delay: float, result: Any = None) -> Any:
        return await sleep(delay + jitter.next_s() if delay > 0 else delay, result)

    def latency_s(network: MemoryNetwork) -> float:
        return float(vars(network)["latency_s"]) + min(jitter.next_s(), FAR_S)

    def set_latency_s(network: MemoryNetwork, one_way_s: float) -> None:
        vars(network)["latency_s"] = one_way_s

    def commit_late(_: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(jitter.next_s())

    setattr(asyncio.base_events.BaseEventLoop, "run_in_executor", run_in_executor)  # noqa: B010
    setattr(asyncio, "sleep", sleep_longer)  # noqa: B010
    setattr(MemoryNetwork, "latency_s", property(latency_s, set_latency_s))  # noqa: B010
    event.listen(Engine, "commit", commit_late)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    jitter.luck = random.Random(f"{SEED} {item.nodeid}")
