"""One worker thread for what an authority checks: one candidate's work at a time, and the rest of the process first."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Mild: a thread that is hardly ever run would sit on Python's lock between its turns, and all others would wait for it.
NICER_BY: Final = 5


def step_back() -> None:
    """Give this thread less of the processor than the others have, where the system has priorities for threads."""
    with suppress(AttributeError, OSError):  # Linux takes a thread's id here; elsewhere there is none, or no such call
        if hasattr(os, "sched_getaffinity"):  # Linux alone: on others the call would slow the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER_BY)


@functools.cache
def _worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="gridllm-check", initializer=step_back)


async def in_background(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in the worker thread, after what was given to it before. Cancelling gives up only the wait."""
    call = functools.partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_worker(), call)


def warm_up() -> None:
    """Import torch and transformers, which takes seconds, before a candidate's clock runs. For an authority's process.

    What was imported stays: were Python to look through all of it for garbage now and then, everything would stand
    still for a third of a second each time. Few rows are checked at a time: one processor does, and the others are for
    the rest of the process.
    """
    import torch

    import gridllm.admission.examination.verifier
    import gridllm.admission.proof.workload  # noqa: F401

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
