"""Weightless modules that stand where a span or a client holds no weights, and the taps at a model's seams."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn


class NoPositions(nn.Module):
    """Stands in for a learned position embedding: adds nothing."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros((), dtype=dtype, device=device), persistent=False)

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        """A scalar zero, which broadcasts over any hidden states."""
        return self.zero  # type: ignore[return-value]


class Absent(nn.Module):
    """Stands in for a part that is never called here (a span's token embedding)."""

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        """Raises: a span has no embedding."""
        raise RuntimeError("This part of the model is held elsewhere; feed hidden states, not token ids.")


class Entry(nn.Module):
    """A span's first block, given ``hidden`` in place of whatever the family's forward made of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.hidden: torch.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """What loops over layers read off a block (``attention_type``) is the block's own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, _: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The block's own forward, on the true hidden states."""
        hidden, self.hidden = self.hidden, None
        return self.layer(hidden, *args, **kwargs)


class OnlyLayer(nn.Module):
    """The one layer of a client's model: gives ``inner`` the arguments every family's block gets, under one name each.

    ``inner(hidden [B, T, H], *, attention_mask, position_ids, past_key_values)`` returns hidden [B, T, H].
    """

    def __init__(self, inner: nn.Module, like: nn.Module, *, tuple_out: bool) -> None:
        super().__init__()
        self.inner = inner
        self.tuple_out = tuple_out
        self.names = list(inspect.signature(type(like).forward).parameters)[2:]  # after self and hidden states
        for name in ("attention_type", "layer_type", "is_sliding", "layer_idx"):  # read by some families' loops
            if hasattr(like, name):
                setattr(self, name, getattr(like, name))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Called by the family's loop over layers in place of all its blocks."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        cache = given.get("past_key_values", given.get("layer_past"))
        hidden = self.inner(
            hidden_states,
            attention_mask=given.get("attention_mask"),
            position_ids=given.get("position_ids"),
            past_key_values=cache,
        )
        return (hidden, None) if self.tuple_out else hidden


class Tap(nn.Module):
    """A layer that notes what comes in (the embedding's output) and hands out what it was told to (for the head)."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: torch.Tensor | None = None
        self.leaving: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor, **_: Any) -> torch.Tensor:
        """hidden [B, T, H] → ``leaving`` when set, else unchanged."""
        self.entered = hidden
        return hidden if self.leaving is None else self.leaving
