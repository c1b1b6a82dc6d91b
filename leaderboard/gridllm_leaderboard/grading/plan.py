"""Where a model is run, and within which bounds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridllm.errors import UsageError
from gridllm_leaderboard.grading.job import Dtype, Via
from gridllm_leaderboard.grading.limits import held_parameters, needed_bytes

Way = Literal["local", "grid", "auto"]


@dataclass(frozen=True, slots=True)
class Means:
    """What a grader's owner gives."""

    way: Way
    memory_bytes: int  # for one model
    dtype: Dtype  # of models that run here
    device: str
    threads: int
    grid_dtype: Dtype | None = None  # of nodes that are asked for; None: what the grid lists the model in

    @property
    def holds(self) -> int:
        """Parameters of the largest model that may be graded here; 0: none may."""
        return 0 if self.way == "grid" else held_parameters(self.memory_bytes, self.dtype)


class TooLargeError(Exception):
    """The model fits nowhere; the text says why, after a colon."""


def way_for(means: Means, parameters: int, serve: bool) -> Via:
    """Here, or by the grid's chains.

    Args:
        serve: the author lets the grid run it.

    Raises:
        TooLargeError: it does not fit here, and may not or shall not be run there.
        UsageError: the grader was told to use the grid alone, and this model may not go there.
    """
    needed = needed_bytes(parameters, means.dtype)
    fits = needed <= means.memory_bytes
    if means.way == "grid":
        if not serve:
            raise UsageError("Its author does not let the grid run this model: grade it with --via local or auto.")
        return "grid"
    if fits:
        return "local"
    if means.way == "auto" and serve:
        return "grid"
    why = "the grader was told not to use the grid" if serve else "its author does not let the grid run it"
    here = means.memory_bytes / 1e9
    raise TooLargeError(
        f"it takes {needed / 1e9:.1f} GB of memory to grade, this grader gives {here:.1f} GB, and {why}"
    )
