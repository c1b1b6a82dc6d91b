"""What the engine has done so far."""

from __future__ import annotations

from dataclasses import dataclass

from gridllm.engine.cache import TokenBudget


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Counters since the engine started, and the cache's state at the moment of reading."""

    free_tokens: int
    total_tokens: int
    waiting_steps: int
    passes: int
    steps: int  # session steps taken through; steps / passes is the mean batch
    sequences: int  # rows taken through
    tokens: int
    busy_s: float
    largest_batch: int  # steps in one pass

    @property
    def mean_batch(self) -> float:
        """Session steps per pass; 0 before the first."""
        return self.steps / self.passes if self.passes else 0.0


class Meter:
    """Adds up passes. Written by the worker, read by the event loop; each counter is a plain int or float."""

    def __init__(self) -> None:
        self._passes = self._steps = self._sequences = self._tokens = self._largest = 0
        self._busy_s = 0.0

    def add(self, *, sequences: int, steps: int, tokens: int, elapsed_s: float) -> None:
        """Count one pass."""
        self._passes += 1
        self._steps += steps
        self._sequences += sequences
        self._tokens += tokens
        self._busy_s += elapsed_s
        self._largest = max(self._largest, steps)

    def read(self, budget: TokenBudget, waiting: int) -> EngineMetrics:
        """The counters beside the budget's state."""
        return EngineMetrics(
            free_tokens=budget.free,
            total_tokens=budget.total,
            waiting_steps=waiting,
            passes=self._passes,
            steps=self._steps,
            sequences=self._sequences,
            tokens=self._tokens,
            busy_s=self._busy_s,
            largest_batch=self._largest,
        )
