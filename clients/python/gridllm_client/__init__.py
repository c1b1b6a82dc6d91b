"""The user's side of a grid: ``Grid().model("demo").generate("Once upon a time")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridllm_client.generation import Generation
    from gridllm_client.grid import Grid
    from gridllm_client.model import GridModel

__all__ = ["Generation", "Grid", "GridModel"]

_HOMES = {"Grid": "grid", "GridModel": "model", "Generation": "generation"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``gridllm --help`` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
