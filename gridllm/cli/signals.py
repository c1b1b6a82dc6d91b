"""Ctrl-C once, twice, three times."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Final

WATCHED: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def two_stops() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: the first Ctrl-C or SIGTERM sets ``stop``, the second ``hurry``; a third is not caught any more."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if not stop.is_set():
            stop.set()
            return
        hurry.set()
        for number in WATCHED:
            loop.remove_signal_handler(number)

    for number in WATCHED:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop, hurry
    finally:
        for number in WATCHED:
            loop.remove_signal_handler(number)
