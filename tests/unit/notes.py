"""A node's report that is written down, for tests to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gridllm.node.report import Pulse
from gridllm.wire.record import NodeRecord


class Notes:
    """What a node told its volunteer."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.served: list[NodeRecord] = []
        self.loaded: list[int] = []
        self.pulses: list[Pulse] = []
        self.stages: list[tuple[str, float]] = []
        self.again = asyncio.Event()  # set at each "serving"

    def phase(self, sentence: str) -> None:
        self.lines.append(sentence)

    def loading(self, done: int, total: int) -> None:
        assert 0 < done <= total
        self.loaded.append(done)

    def stage(self, name: str, done: float) -> None:
        self.stages.append((name, done))

    def queued(self, place: int, waiting: int) -> None:
        self.lines.append(f"{place} of {waiting}")

    def serving(self, record: NodeRecord) -> None:
        self.served.append(record)
        self.again.set()

    def pulse(self, pulse: Pulse) -> None:
        self.pulses.append(pulse)

    def note(self, sentence: str) -> None:
        self.lines.append(sentence)

    def close(self) -> None:
        self.lines.append("closed")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it does, at most a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for is plain data
            await asyncio.sleep(0.01)
