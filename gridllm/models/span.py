"""A node's share of a model: blocks [start, end) in transformers' own class, and nothing else in memory."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gridllm.errors import ModelError
from gridllm.models.families import (
    Layout,
    build_meta,
    cut_config,
    is_ragged,
    layout_of,
    plain_attention,
    read_config,
    stretches_rope,
)
from gridllm.models.inventory import Inventory
from gridllm.models.loading import Progress, fill
from gridllm.models.parts import Absent, Entry, NoPositions
from gridllm.models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from gridllm.models.manifest import Manifest


class Span:
    """Blocks [start, end) of a model, ready to run. Not thread-safe: one forward at a time."""

    def __init__(self, base: PreTrainedModel, layout: Layout, start: int, end: int) -> None:
        self.base = base
        self.start = start
        self.end = end
        self.config: PreTrainedConfig = base.config  # num_hidden_layers = end - start
        self.hidden_size: int = base.config.hidden_size
        self.layers: list[nn.Module] = list(getattr(base, layout.layers))
        self.dtype: torch.dtype = base.config.dtype
        self.device: torch.device = next(self.layers[0].parameters()).device
        self.parameters = sum(parameter.numel() for parameter in base.parameters())
        self.held_bytes = sum(tensor.nbytes for tensor in [*base.parameters(), *base.buffers()])
        self.ragged = is_ragged(base.config)
        self._layout = layout
        self._views: dict[tuple[int, int], Span] = {}
        # Whatever the family's forward does to its input (scaling, norms) is the embedding's owner's business: the
        # first block gets the hidden states as they came.
        self._entry = Entry(self.layers[0])
        runner = copy.copy(base)
        runner._modules = dict(base._modules)
        setattr(runner, layout.layers, torch.nn.ModuleList([self._entry, *self.layers[1:]]))
        # The decorators around a family's forward only collect optional outputs and fill in config defaults.
        self._run = partial(inspect.unwrap(type(base).forward), runner)

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor, cache: Any) -> torch.Tensor:
        """Run the blocks: hidden [1, T, H] (as block ``start`` gets it), position_ids [1, T] → hidden [1, T, H].

        What returns is what block ``end - 1`` returned, before any final norm. ``cache.update(k, v, layer_idx)`` gets
        the layer's number in the WHOLE model (subtract ``start`` for a local index).
        """
        with torch.inference_mode():
            self._entry.hidden = hidden
            out = self._run(
                inputs_embeds=hidden,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            return out[0]

    def cache_shapes(self) -> list[tuple[int, int, int]]:
        """Per local layer: (key/value heads, size of a key, size of a value), as ``cache.update`` will get them."""
        return [_cache_shape(layer, self.config) for layer in self.layers]

    @property
    def bytes_per_token(self) -> int:
        """Cache memory that one token takes over all blocks of the span, in the span's dtype."""
        return sum(heads * (key + value) for heads, key, value in self.cache_shapes()) * self.dtype.itemsize

    def view(self, start: int, end: int) -> Span:
        """Blocks [start, end), numbered as in the whole model, of this span; shares its weights.

        Raises:
            ModelError: the span does not hold these blocks.
        """
        if (start, end) == (self.start, self.end):
            return self
        if not self.start <= start < end <= self.end:
            raise ModelError(f"Blocks {start}:{end} are not within the span {self.start}:{self.end}.")
        view = self._views.get((start, end))
        if view is None:
            first, last = start - self.start, end - self.start
            base = copy.copy(self.base)
            base._modules = dict(self.base._modules)
            base.config = cut_config(self.config, first, last)
            setattr(base, self._layout.layers, torch.nn.ModuleList(self.layers[first:last]))
            view = self._views[start, end] = Span(base, self._layout, start, end)
        return view


def load_span(
    folder: Path,
    manifest: Manifest | None,
    start: int,
    end: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attn: str = "sdpa",
    progress: Progress | None = None,
) -> Span:
    """Load blocks [start, end) from a model folder; memory peaks at the span's weights plus one piece.

    Args:
        manifest: checked against the folder's config and, tensor by tensor, while reading. None: trusted folder.
        attn: name of the attention implementation; "sdpa" means transformers' own best one, and families with
            ``ragged`` False take only that.

    Raises:
        ModelError: unsupported family, a span outside the model, or files that are missing, corrupt or another model's.
    """
    config = read_config(folder)
    if manifest is not None:
        manifest.check_config(folder)
    if not 0 <= start < end <= config.num_hidden_layers:
        raise ModelError(f"The model has blocks 0:{config.num_hidden_layers}; {start}:{end} is not a span of it.")
    layout = layout_of(config)
    if attn == "sdpa" or not is_ragged(config):
        attn = plain_attention(config)
    checkpoint = Checkpoint.open(folder)
    target = torch.device(device)

    def read(inventory: Inventory) -> None:
        fill(inventory, checkpoint, manifest, device=target, layers=(layout.layers, start, end), progress=progress)

    return cut_span(build_meta(config, dtype=dtype, attn=attn), start, end, device=target, give_weights=read)


def cut_span(
    causal: PreTrainedModel, start: int, end: int, *, device: torch.device, give_weights: Callable[[Inventory], None]
) -> Span:
    """Blocks [start, end) of a model that lies whole on the meta device (``build_meta``); the model is used up.

    Args:
        give_weights: called once everything else is cut away; puts all that the inventory still keeps on ``device``.

    Raises:
        ModelError: the family has a part that GridLLM does not know.
    """
    config = causal.config
    layout = layout_of(config)
    inventory = Inventory(causal)
    base = causal.base_model
    _strip(causal, base, layout, start, end, device)
    give_weights(inventory)
    if stretches_rope(config):
        _freeze_rope(base)
    return Span(base, layout, start, end)


def _freeze_rope(base: PreTrainedModel) -> None:
    """Keep the frequencies of short texts: transformers would switch all rows of a pass by the longest of them.

    Clients stay below ``families.position_limit``, where both give the same.
    """
    for module in base.modules():
        if "RotaryEmbedding" in type(module).__name__:
            module.forward = partial(inspect.unwrap(type(module).forward), module)


def _strip(
    causal: PreTrainedModel, base: PreTrainedModel, layout: Layout, start: int, end: int, device: torch.device
) -> None:
    """Cut the layers and replace every other part that holds weights."""
    base.config = cut_config(base.config, start, end)
    setattr(base, layout.layers, getattr(base, layout.layers)[start:end])
    setattr(base, layout.embed, Absent())
    for name in layout.positions:
        setattr(base, name, NoPositions(base.config.dtype, device))
    for name in (layout.norm, *layout.embed_norms):
        setattr(base, name, torch.nn.Identity())
    for name, child in base.named_children():
        if name != layout.layers and next(child.parameters(), None) is not None:
            raise ModelError(f"Model family {base.config.model_type!r} has a part GridLLM does not know: {name}.")
    for name, child in causal.named_children():
        if child is not base:
            setattr(causal, name, torch.nn.Identity())


def _cache_shape(layer: nn.Module, config: PreTrainedConfig) -> tuple[int, int, int]:
    attention: Any = next(module for module in layer.modules() if hasattr(module, "layer_idx") and module is not layer)
    if getattr(config, "kv_lora_rank", None):  # multi-head latent attention caches the latent and one rotary key
        return 1, config.kv_lora_rank, config.qk_rope_head_dim
    size = getattr(attention, "head_dim", None) or getattr(attention, "head_size", None)
    size = int(size or getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    heads = config.num_attention_heads
    if config.model_type == "falcon":
        # The new architecture caches keys already repeated for each query head.
        heads = heads if config.new_decoder_architecture else attention.num_kv_heads
    elif getattr(config, "multi_query", False):
        heads = 1
    elif hasattr(attention, "k_proj"):
        heads = attention.k_proj.out_features // size
    elif hasattr(attention, "num_key_value_heads"):
        heads = attention.num_key_value_heads
    return int(heads), size, size
