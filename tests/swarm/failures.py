"""Losing nodes on purpose, and what the one who generates sees of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridllm_client.generation import Generation
from gridllm_client.model import GridModel
from gridllm_client.terms import ChainEvent
from tests.swarm.grid import Node, ProcessGrid

SPANS = ("0:3", "3:6", "6:8")

Harm = Callable[[Sequence[int]], None]
"""Called with the numbers of the chain's nodes, head first."""


@dataclass
class Interrupted:
    """A generation that lost nodes on its way."""

    text: str
    pause_s: float  # the longest time without a new piece of text since the first harm, as the user saw it
    repairs: list[ChainEvent]


def interrupt(model: GridModel, grid: ProcessGrid, prompt: str, harm: Mapping[int, Harm], **wishes: Any) -> Interrupted:
    """Generate, and do harm after so many pieces of text."""
    made, done = Generation(), 0
    latest, longest_s = time.monotonic(), 0.0
    for count, _ in enumerate(model.stream_into(made, prompt, **wishes), 1):
        now = time.monotonic()
        longest_s = max(longest_s, now - latest) if done else 0.0
        latest = now
        if count in harm:
            done += 1
            harm[count](numbers(grid, made.chain))
    assert done == len(harm), f"the text ended after {count} pieces, before harm was done"
    return Interrupted(made.text, longest_s, [event for event in made.events if event.kind == "repaired"])


def kill(grid: ProcessGrid, *hops: int) -> Harm:
    """``kill -9`` of these hops of the chain, all at once."""

    def harm(chain: Sequence[int]) -> None:
        for hop in hops:
            grid.kill(chain[hop])

    return harm


def numbers(grid: ProcessGrid, chain: Sequence[tuple[str, int, int]]) -> list[int]:
    """The grid's numbers of a chain's nodes, head first."""
    by_peer = {node.peer: number for number, node in enumerate(grid.nodes) if node.line}
    return [by_peer[peer] for peer, _, _ in chain]


def alive(grid: ProcessGrid) -> dict[int, Node]:
    """Nodes that run, by number."""
    return {number: node for number, node in enumerate(grid.nodes) if node.running.process.poll() is None}


def serving(grid: ProcessGrid, span: str) -> list[int]:
    """Numbers of the nodes that serve exactly ``span``."""
    start, end = map(int, span.split(":"))
    return [number for number, node in alive(grid).items() if node.span == (start, end)]


def replenish(grid: ProcessGrid, copies: int = 2) -> None:
    """Start nodes until every span of ``SPANS`` is served by ``copies``."""
    grid.add(*(span for span in SPANS for _ in range(copies - len(serving(grid, span)))))


@dataclass
class Pauses:
    """Pauses as the user saw them, and as they were printed; seconds."""

    seen_s: list[float] = field(default_factory=list)
    said_s: list[float] = field(default_factory=list)

    def add(self, made: Interrupted) -> None:
        self.seen_s.append(made.pause_s)
        self.said_s.append(sum(event.pause_s for event in made.repairs))

    def summary(self) -> dict[str, float | int | list[float]]:
        """Count, median, 95th percentile (nearest rank) and maximum."""
        ranked = sorted(self.seen_s)
        at = {"median_s": 0.5, "p95_s": 0.95, "max_s": 1.0}
        found = {name: round(ranked[max(0, -int(-share * len(ranked) // 1) - 1)], 3) for name, share in at.items()}
        return {"count": len(ranked), **found, "each_s": [round(s, 3) for s in self.seen_s]}
