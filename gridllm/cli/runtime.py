"""One event loop for a command's whole life."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Run ``main`` on uvloop, which takes 10–20 % off each message. Ctrl-C cancels it and raises KeyboardInterrupt."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set, for commands that serve until told to stop.

    A second Ctrl-C is not caught any more and interrupts at once.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    watched = (signal.SIGINT, signal.SIGTERM)

    def on_signal() -> None:
        stop.set()
        for number in watched:
            loop.remove_signal_handler(number)

    for number in watched:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in watched:
            loop.remove_signal_handler(number)
