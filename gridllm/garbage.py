"""Python's search for garbage, kept away from where there is none: what a command imports.

torch and transformers make a million objects while they are imported, and all of them stay. Python looks through them
again and again meanwhile, and once more at the end, when the system takes back the whole memory anyway: a third of the
processor time of a short ``gridllm generate`` (docs/performance.md).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator
from typing import Final

YOUNG: Final = 50_000  # objects made before Python looks through them; of itself, it waits for 700 to 2,000


@contextlib.contextmanager
def searched_rarely() -> Iterator[None]:
    """Look for garbage rarely in this block, which imports much; not never, since it may also wait for a network."""
    young, *older = gc.get_threshold()
    gc.set_threshold(YOUNG, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)


def end_without_search() -> None:
    """Look for no garbage when this process ends. What was registered with ``atexit`` still runs."""
    atexit.register(gc.freeze)
