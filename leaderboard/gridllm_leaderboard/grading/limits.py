"""Memory and time that the process with a stranger's model may take."""

from __future__ import annotations

import contextlib
import resource
import sys
from dataclasses import dataclass
from typing import Final

from gridllm.models.sizes import ITEM_BYTES

SPARE_BYTES: Final = 1536 * 1024 * 1024  # activations, logits, the harness's own lists
WEIGHT_COPIES: Final = 1.25  # a piece is held twice while it is converted
FLOPS: Final = 2e9  # of the slowest machine that grades: operations in a second
LEAST_S: Final = 900
MOST_S: Final = 48 * 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """The time that one attempt may take; its memory is what the grader's owner gives."""

    wall_s: int
    cpu_s: int


def needed_bytes(parameters: int, dtype: str) -> int:
    """Memory that a model takes when it is graded here."""
    return int(parameters * ITEM_BYTES[dtype] * WEIGHT_COPIES) + SPARE_BYTES


def held_parameters(memory_bytes: int, dtype: str) -> int:
    """Parameters of the largest model that fits into so much memory when it is graded here."""
    return max(0, int((memory_bytes - SPARE_BYTES) / (ITEM_BYTES[dtype] * WEIGHT_COPIES)))


def limits_for(parameters: int, text_bytes: int, threads: int) -> Limits:
    """Bounds by the model's size and the text it is asked; generous: they stop what is broken, not what is slow.

    Args:
        text_bytes: of all items, contexts counted once for each choice; a byte is a token at most.
    """
    wall_s = int(min(MOST_S, LEAST_S + 2 * parameters * text_bytes / FLOPS))
    return Limits(wall_s, wall_s * max(1, threads))


def confine(memory_bytes: int, cpu_s: int) -> None:
    """Bind this process from now on. What it holds already (the program, torch) is not counted against it.

    Private memory is bounded rather than addresses: files that are mapped and address space that is only reserved take
    no memory, and how much of the latter an allocator takes is no business of the model's.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, cpu_s + int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])))
    if sys.platform == "linux":
        _lower(resource.RLIMIT_DATA, _private_bytes() + memory_bytes)
    else:  # pragma: no cover
        with contextlib.suppress(ValueError, OSError):  # macOS takes none
            _lower(resource.RLIMIT_AS, memory_bytes)


def _lower(which: int, to: int) -> None:
    _, hard = resource.getrlimit(which)
    bound = to if hard == resource.RLIM_INFINITY else min(to, hard)
    resource.setrlimit(which, (bound, hard))


def _private_bytes() -> int:
    """What RLIMIT_DATA counts so far."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
