"""Flags that say what a machine computes with, checked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gridllm.charter.document import ModelEntry
    from gridllm.settings import Settings

DTYPES: Final = ("float32", "bfloat16", "float16")


def dtype_of(settings: Settings, entry: ModelEntry) -> str:
    """The dtype asked for, or the charter's.

    Raises:
        UsageError: nodes do not serve in it.
    """
    from gridllm.errors import UsageError

    dtype = settings.dtype or entry.dtype
    if dtype not in DTYPES:
        raise UsageError(f"The dtype {dtype!r} is not served; choose one of {', '.join(DTYPES)}.")
    return dtype


def device_of(settings: Settings) -> str:
    """The torch device, checked; also sets the number of threads.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    from gridllm.errors import UsageError

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=settings.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        if reason.startswith("Expected one of"):  # torch lists some twenty that nobody has
            reason = "torch knows no such device; try cpu, cuda or cuda:1"
        raise UsageError(f"The device {settings.device!r} cannot be used here: {reason}.") from error
    return settings.device
