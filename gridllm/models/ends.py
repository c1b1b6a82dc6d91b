"""A client's share of a model: token embedding, final norm and head, in transformers' own class.

The class is built with one layer, and that layer is a tap: its forward pass does what the family does before the first
and after the last block (scaled embeddings, learned positions, soft-capped logits). Where plain embedding, norm and
linear head give the very same bits, which is probed once at load, they are called directly: it is ten times cheaper.
"""

from __future__ import annotations

import copy
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from gridllm.errors import ModelError
from gridllm.models.families import (
    Layout,
    build_meta,
    cut_config,
    layout_of,
    plain_attention,
    position_limit,
    read_config,
)
from gridllm.models.inventory import Inventory
from gridllm.models.loading import Progress, fill
from gridllm.models.parts import OnlyLayer, Tap
from gridllm.models.tokenizers import read_tokenizer
from gridllm.models.weights import Checkpoint

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from gridllm.models.manifest import Manifest

ATTENTION: Final = "gridllm_ends"
"""Attention name of the client's model: no attention runs there, and its mask function hands the 2-D padding mask
([batch, past + new tokens], bool, or None when nothing is padded) through to the grid layer untouched."""


class Ends:
    """Embedding and head of a model."""

    def __init__(self, folder: Path, model: PreTrainedModel, layout: Layout, config: PreTrainedConfig) -> None:
        self.folder = folder
        self.config = config
        """The whole model's config (all its layers)."""
        self.hidden_size: int = config.hidden_size
        self.dtype: torch.dtype = model.config.dtype
        self.max_positions: int | None = position_limit(config)
        """Longest text the family's positions reach; None: no hard end."""
        self.model = model
        self._layout = layout
        self._tap = Tap()
        self._tapping = threading.Lock()  # a tap holds one forward pass at a time
        base = model.base_model
        self._like = getattr(base, layout.layers)[0]
        self._set_layer(model, self._tap)
        self._embedding: nn.Module = getattr(base, layout.embed)
        self._norm: nn.Module = getattr(base, layout.norm)
        self._head: nn.Module = model.get_output_embeddings()
        self._plain_embed, self._plain_head = self._probe()

    @staticmethod
    def load(
        folder: Path,
        manifest: Manifest | None = None,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Ends:
        """Load only the embedding, norm and head of a model folder, checked against ``manifest`` when given.

        Raises:
            ModelError: unsupported family, or files that are missing, corrupt or another model's.
        """
        config = read_config(folder)
        if manifest is not None:
            manifest.check_config(folder)
            manifest.check_tokenizer(folder)
        _register_attention()
        layout = layout_of(config)
        checkpoint = Checkpoint.open(folder)
        one = cut_config(config, 0, 1)
        model = _build(one, dtype)
        inventory = Inventory(model)
        base = model.base_model
        layer = getattr(base, layout.layers)[0]
        setattr(base, layout.layers, nn.ModuleList())  # its tensors are not wanted
        fill(
            inventory,
            checkpoint,
            manifest,
            device=torch.device(device),
            layers=(layout.layers, 0, 0),
            progress=progress,
        )
        setattr(base, layout.layers, nn.ModuleList([layer]))
        config.dtype = dtype
        return Ends(folder, model, layout, config)

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Token ids [n] at positions [n] → hidden [n, hidden_size], as the first block gets them.

        Raises:
            ModelError: a position that the model has not learned.
        """
        if self.max_positions is not None and int(positions.max()) >= self.max_positions:
            raise ModelError(f"This model reads at most {self.max_positions} tokens: shorten the prompt or the answer.")
        with torch.inference_mode():
            return self._embedding(ids) if self._plain_embed else self._tapped_embed(ids, positions)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden [n, hidden_size], as the last block returned them → logits [n, vocabulary], float32."""
        with torch.inference_mode():
            logits = self._head(self._norm(hidden)) if self._plain_head else self._tapped_head(hidden)
            return logits.float()

    def causal_lm(self, grid_layer: nn.Module) -> PreTrainedModel:
        """The family's causal LM (with ``generate``) whose only layer is ``grid_layer``; shares this object's weights.

        ``grid_layer(hidden [B, T, H], *, attention_mask, position_ids, past_key_values) -> hidden [B, T, H]``: the mask
        is the 2-D padding mask or None (see ``ATTENTION``), and it must keep
        ``past_key_values.get_seq_length()`` right by calling its ``update(key, value, 0)``, e.g. with [B, 1, T, 1]
        tensors. The config says one layer.
        """
        model = _build(copy.deepcopy(self.model.config), self.dtype)
        base, mine = model.base_model, self.model.base_model
        for name, child in mine.named_children():
            setattr(base, name, child)
        for name, child in self.model.named_children():
            if child is not mine:
                setattr(model, name, child)
        setattr(base, self._layout.layers, nn.ModuleList())
        self._set_layer(model, grid_layer)
        model.generation_config = copy.deepcopy(self.generation_config)
        return model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer.

        Raises:
            ModelError: the folder has none that transformers can read.
        """
        return read_tokenizer(self.folder)

    @cached_property
    def generation_config(self) -> GenerationConfig:
        """The model's generation defaults (from its file, else from its config)."""
        from transformers import GenerationConfig

        if (self.folder / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(self.folder, local_files_only=True)
        return GenerationConfig.from_model_config(self.config)

    def _set_layer(self, model: PreTrainedModel, inner: nn.Module) -> None:
        slot = OnlyLayer(inner, self._like, tuple_out=self._layout.tuple_out)
        setattr(model.base_model, self._layout.layers, nn.ModuleList([slot]))

    def _tapped_embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with self._tapping:
            self.model.base_model(input_ids=ids[None], position_ids=positions[None], use_cache=False)
            return self._take()[0]

    def _tapped_head(self, hidden: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(hidden.shape[0], device=hidden.device)[None]
        with self._tapping:
            self._tap.leaving = hidden[None]
            logits = self.model(inputs_embeds=hidden[None], position_ids=positions, use_cache=False).logits
            self._take()
            return logits[0]

    def _take(self) -> torch.Tensor:
        entered, self._tap.entered, self._tap.leaving = self._tap.entered, None, None
        if entered is None:
            raise ModelError(f"The forward pass of {self.config.model_type!r} does not run through its layer list.")
        return entered

    def _probe(self) -> tuple[bool, bool]:
        """Whether the direct embedding and the direct head give the same bits as the family's forward pass."""
        device = next(self.model.parameters()).device
        count = min(4, self.config.vocab_size)
        ids = torch.arange(count, device=device) * (self.config.vocab_size // count)
        positions = torch.arange(1, count + 1, device=device)
        with torch.inference_mode():
            embedded = self._tapped_embed(ids, positions)
            plain_embed = torch.equal(embedded, self._embedding(ids))
            grown = torch.linspace(-3, 3, self.hidden_size, device=device, dtype=self.dtype) * torch.ones(
                2, 1, device=device, dtype=self.dtype
            )
            plain_head = torch.equal(self._tapped_head(grown), self._head(self._norm(grown[None]))[0])
        return plain_embed, plain_head


def _build(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The one-layer class on the meta device. Some families pick attention classes by name while they are built, so
    ours is set afterwards: no attention is ever called, only masks are made."""
    model = build_meta(config, dtype=dtype, attn=plain_attention(config))
    model.config._attn_implementation = ATTENTION
    return model


def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _no_attention)
    AttentionMaskInterface.register(ATTENTION, _padding_mask)


def _no_attention(*_: Any, **__: Any) -> Any:
    raise ModelError("The client's half of a model runs no attention: its blocks live on the grid.")


def _padding_mask(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> torch.Tensor | None:
    return attention_mask
