"""What a serving node tells whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gridllm.wire.record import NodeRecord


@dataclass(frozen=True, slots=True)
class Pulse:
    """The node's life at one moment."""

    sessions: int
    tokens_per_s: float  # through this span, since the pulse before
    tokens: int  # since the start
    mean_batch: float  # steps of one pass, since the start
    free_tokens: int
    total_tokens: int
    uptime_s: float
    earned: int | None = None  # ever, as far as keepers have taken the vouchers, micro-credits; None: nobody pays here
    waiting: int = 0  # promised by vouchers not yet handed in, micro-credits


class Report(Protocol):
    """Where the lifecycle's news go. ``loading`` is called from a worker thread, all else on the event loop.

    Also a ``Watcher`` of the examination before the first serving.
    """

    def phase(self, sentence: str) -> None:
        """What the node does now."""
        ...

    def loading(self, done: int, total: int) -> None:
        """Bytes of weights read, of all."""
        ...

    def stage(self, name: str, done: float) -> None:
        """The node is being examined: what is measured now, and the share of the whole that is done."""
        ...

    def queued(self, place: int, waiting: int) -> None:
        """It waits to be examined; ``place`` 1 is next."""
        ...

    def serving(self, record: NodeRecord) -> None:
        """Clients can use the node from now on."""
        ...

    def pulse(self, pulse: Pulse) -> None:
        """About once a second while serving."""
        ...

    def note(self, sentence: str) -> None:
        """Something worth a line of its own."""
        ...

    def close(self) -> None:
        """The node is gone; give the terminal back."""
        ...


class Aside:
    """A report of what a node does beside serving: sentences pass, bars and stages would disturb the picture."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def phase(self, sentence: str) -> None:
        """See ``Report``."""
        self._report.note(f"{sentence}.")

    def loading(self, done: int, total: int) -> None:
        """See ``Report``; silent."""

    def stage(self, name: str, done: float) -> None:
        """See ``Report``; silent."""

    def queued(self, place: int, waiting: int) -> None:
        """See ``Report``; silent."""

    def serving(self, record: NodeRecord) -> None:
        """See ``Report``."""
        self._report.serving(record)

    def pulse(self, pulse: Pulse) -> None:
        """See ``Report``; silent."""

    def note(self, sentence: str) -> None:
        """See ``Report``."""
        self._report.note(sentence)

    def close(self) -> None:
        """See ``Report``; the other report goes on."""
