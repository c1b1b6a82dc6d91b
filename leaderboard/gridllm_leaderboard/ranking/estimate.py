"""A value with its interval, as the ranking counts with it; a model's marks are ``store.records.Mark``."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2
