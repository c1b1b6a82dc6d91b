"""A serving node is measured again beside its work; what its certificate says afterwards. Pure."""

from __future__ import annotations

from typing import Final

from gridllm.admission.figures import RATES, Figures

BUSY_SHARE: Final = 0.5  # a node that serves meanwhile may show this much of what it can do
CARRIED_SHARE: Final = 0.9  # of an old rate counts, and less each time: once rented, a figure must not last for ever


def renewed(old: Figures, measured: Figures, *, strict: bool = False) -> Figures:
    """What a renewed certificate says.

    Memory holds the model's weights now and is not filled anew, so its figure is carried over. A rate counts when it
    is higher than the old one; while at least ``BUSY_SHARE`` of the old one was reached beside serving, at least
    ``CARRIED_SHARE`` of it stays; otherwise the machine has become slower, and the new one counts.

    Args:
        strict: clients saw the node serve far below its certificate: every rate counts as it was measured now.
    """
    if strict:
        return measured.model_copy(update={"memory_bytes": old.memory_bytes})
    rates = {name: _rate(getattr(old, name), getattr(measured, name)) for name in RATES}
    return measured.model_copy(update={**rates, "memory_bytes": old.memory_bytes})


def _rate(old: float, measured: float) -> float:
    return max(measured, CARRIED_SHARE * old) if BUSY_SHARE * old <= measured else measured
