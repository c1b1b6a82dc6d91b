"""Flags that say what a model may be graded with, checked before anything is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.settings import Settings
    from gridllm_leaderboard.grading.plan import Means
    from gridllm_leaderboard.grading.preparing import Ways

WAYS: Final = ("auto", "local", "grid")
MEMORY_SHARE: Final = 0.6  # of the machine's, where nobody said how much

ViaOption = Annotated[
    str, typer.Option("--via", help="Run models here (local), on the grid's nodes (grid), or where they fit (auto).")
]
MemoryOption = Annotated[
    str | None, typer.Option(help="Memory one model may use here, like 8GiB; default: 60 % of the machine's.")
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16. Default: float32 here; on the grid, the dtype that the model is listed in."
    ),
]


def means_of(settings: Settings, via: str, memory: str | None, dtype: str | None) -> Means:
    """Raises UsageError: a flag cannot be used."""
    import psutil

    from gridllm.cli.compute import DTYPES
    from gridllm.errors import UsageError
    from gridllm.quantities import parse_size
    from gridllm_leaderboard.grading.plan import Means

    if via not in WAYS:
        raise UsageError(f"--via {via!r} is not known; choose one of {', '.join(WAYS)}.")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}.")
    given = int(psutil.virtual_memory().total * MEMORY_SHARE) if memory is None else parse_size(memory)
    threads = settings.threads or os.cpu_count() or 1
    device = settings.device or "cpu"
    return Means(via, given, dtype or "float32", device, threads, dtype)  # type: ignore[arg-type]  # all were checked


def ways_of(pins: Pins, signed: SignedCharter, identity: Path) -> Ways:
    """How the grid is entered for models that run there; its account pays, where there is one."""
    from gridllm_leaderboard.grading.preparing import Ways

    return Ways(pins.data_dir, signed.charter.name, identity if identity.exists() else None)


def check_installed() -> None:
    """
    Raises:
        UsageError: the harness is not installed.
    """
    from importlib.util import find_spec

    from gridllm.errors import UsageError

    if find_spec("lm_eval") is None:
        raise UsageError('Grading needs EleutherAI\'s lm_eval; install it with: pip install "gridllm[grading]"')
