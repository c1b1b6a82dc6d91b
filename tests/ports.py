"""TCP ports for processes that tests start, which no other process takes in between."""

from __future__ import annotations

import os
import socket
from itertools import count, islice
from typing import Final

LOWEST: Final = 10_000  # below 32768, from where on systems give out ports by themselves, to whoever connects
WORKERS: Final = 20  # of one run of tests, side by side; each has ports of its own
EACH: Final = 1_000

_next = count(97 * os.getpid())  # where another run of tests, beside this one, hardly begins: its id may be the next


def free_port() -> int:
    """One on 127.0.0.1 at which nobody listens, and that is not given out again soon.

    Not one of the system's choice: it may give that to any other process before ours listens there, seconds later.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    for number in islice(_next, EACH):
        port = LOWEST + EACH * worker + number % EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free from {LOWEST + EACH * worker} on")
