"""A pytest plugin whose clock leaps by a second between any two looks at it: documents have whole seconds, and a test
that makes one twice and takes both for the same fails once in hundreds of runs.

``make jitter``, or ``python -m pytest -p tests.leaps FILE``. ``JITTER_SEED`` chooses other leaps.
"""

from __future__ import annotations

import os
import random
import time
from typing import Final

import pytest

SHARE: Final = 0.2  # of all looks come after a leap
MOST: Final = 10  # leaps within one test: certificates may be good for minutes
SEED: Final = int(os.environ.get("JITTER_SEED", "1"))


class Clock:
    """In place of ``time.time``; never goes back."""

    def __init__(self) -> None:
        self.luck = random.Random(SEED)
        self.leapt_s = 0.0
        self.left = 0
        self._told = time.time

    def __call__(self) -> float:
        if self.left and self.luck.random() < SHARE:
            self.left -= 1
            self.leapt_s += 1.0
        return self._told() + self.leapt_s


clock: Final = Clock()
time.time = clock  # before anybody binds it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    clock.luck, clock.left = random.Random(f"{SEED} {item.nodeid}"), MOST
