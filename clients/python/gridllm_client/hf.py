"""A transformers model whose blocks run on the grid: ``generate()`` with everything transformers has for it."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gridllm.errors import UsageError
from gridllm.models.ends import Ends
from gridllm_client.hf_cache import GridCache, SessionMaker
from gridllm_client.runtime import Runtime

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GridLayer(nn.Module):
    """Stands in for all blocks of a model: one call is one step of a session on the grid."""

    def __init__(self, new_cache: Callable[[], GridCache]) -> None:
        super().__init__()
        self.new_cache = new_cache
        self.asked = _Asked()

    def forward(
        self,
        hidden: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
    ) -> torch.Tensor:
        """hidden [B, T, H] → [B, T, H]; zeros at positions nobody asked for, and at padding.

        The mask and position ids of the block's own signature differ between families; what counts is what the model's
        forward got.
        """
        asked = self.asked
        if isinstance(past_key_values, GridCache):
            return past_key_values.advance(hidden, asked.real, asked.keep)
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            raise UsageError(
                f"A {type(past_key_values).__name__} cannot hold what nodes keep; pass no past_key_values, or those "
                "that this model returned."
            )
        cache = self.new_cache()
        try:
            return cache.advance(hidden, asked.real, asked.keep)
        finally:
            cache.close()


class _Asked(threading.local):
    """What the forward call under way in this thread was asked for."""

    real: torch.Tensor | None = None  # [B, past + T] bool: not padding; None: nothing is padded
    keep: int = 0  # trailing positions whose output is wanted; 0: all


def grid_causal_lm(ends: Ends, runtime: Runtime, make_session: SessionMaker) -> PreTrainedModel:
    """The family's own causal LM with the grid for its blocks. Calls block the calling thread."""
    layer = GridLayer(lambda: GridCache(runtime, make_session))
    model = ends.causal_lm(layer)

    def before_forward(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim != 2:
            raise UsageError(f"An attention mask of {mask.ndim} dimensions cannot run here; give [batch, tokens].")
        wanted = kwargs.get("logits_to_keep", 0)
        layer.asked.real = mask.bool() if mask is not None else None
        layer.asked.keep = wanted if isinstance(wanted, int) and not kwargs.get("output_hidden_states") else 0
        if kwargs.get("use_cache") is not False and kwargs.get("past_key_values") is None:
            kwargs["past_key_values"] = layer.new_cache()
        return args, kwargs

    def prepare_cache(_: PreTrainedModel, config: Any, model_kwargs: dict[str, Any], *__: Any, **___: Any) -> None:
        """In place of transformers' own choice of a cache class."""
        if model_kwargs.get("past_key_values") is not None:
            model_kwargs["past_key_values"]._is_user_defined = True
        elif config.use_cache is not False:
            model_kwargs["past_key_values"] = layer.new_cache()

    model.register_forward_pre_hook(before_forward, with_kwargs=True)
    model._prepare_cache_for_generation = types.MethodType(prepare_cache, model)
    return model.eval()
