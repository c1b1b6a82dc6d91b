"""Measurements in pairs of neighbours, on a machine that is never quiet: ratios with their intervals, and its load."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil


@dataclass
class Pairs:
    """One figure's measurements, with and without, in pairs of neighbours."""

    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Medians, and the median of the pairs' ratios with the interval that holds it in 95 % of resamplings."""
        ratios = np.array(self.on) / np.maximum(self.off, 1e-9)
        drawn = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
        low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
        return {
            "on": statistics.median(self.on),
            "off": statistics.median(self.off),
            "ratio": float(np.median(ratios)),
            "low": float(low),
            "high": float(high),
            "pairs": len(ratios),
        }


class Load:
    """What others do on this machine meanwhile."""

    def __init__(self, ours: Callable[[], float]) -> None:
        """``ours``: CPU seconds of all our processes so far."""
        self._ours = ours
        self._at = self._now()
        self._before = os.getloadavg()[0]

    def since(self) -> dict[str, float]:
        """Load averages of a minute, before and after; the mean number of cores that others kept busy."""
        wall, busy, ours = (after - before for after, before in zip(self._now(), self._at, strict=True))
        return {"before": self._before, "after": os.getloadavg()[0], "others_cores": max(0.0, busy - ours) / wall}

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        return time.monotonic(), times.user + times.nice + times.system, self._ours()
