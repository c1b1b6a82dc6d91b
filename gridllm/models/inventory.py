"""Which tensors a model has, and which of a checkpoint's each is made of, by transformers' own rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(slots=True)
class Recipe:
    """How one target tensor is made from ``sources`` (checkpoint name, rule): by ``converter``, or by a mere rename."""

    target: str
    sources: list[tuple[str, str]] = field(default_factory=list)
    converter: Any = None


class Inventory:
    """Names of a model's tensors, taken before layers are cut away, so that names stay those of the whole model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.meta = model.state_dict()
        self.owners: dict[str, tuple[nn.Module, str]] = {}
        for name in self.meta:
            path, _, leaf = name.rpartition(".")
            self.owners[name] = (model.get_submodule(path), leaf)
        self.tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})

    def kept(self) -> list[str]:
        """Names whose module is still part of the model."""
        alive = {id(module) for module in self.model.modules()}
        return [name for name, (owner, _) in self.owners.items() if id(owner) in alive]

    def recipes(self, names: Iterable[str]) -> dict[str, Recipe]:
        """Checkpoint names → recipe per target; names unknown to the model are ignored, as transformers does."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )

        rules = get_model_conversion_mapping(self.model)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
        prefix = self.model.base_model_prefix
        recipes: dict[str, Recipe] = {}
        for name in sorted(names, key=dot_natural_key):
            target, pattern = rename_source_key(name, renamings, converters, prefix, self.meta)
            if target not in self.meta and name in self.meta:
                target, pattern = rename_source_key(name, [], [], prefix, self.meta)
            if target not in self.meta:
                continue
            recipe = recipes.setdefault(target, Recipe(target))
            recipe.sources.append((name, pattern or name))
            if pattern is not None:
                recipe.converter = by_pattern[pattern]
        return recipes


def dtype_for(name: str, meta: torch.Tensor, model: PreTrainedModel) -> torch.dtype:
    """The dtype from_pretrained would give: the module's own, except parts the family keeps in float32."""
    for pattern, dtype in model._get_dtype_plan(model.config.dtype).items():
        if re.search(rf"(?:^|\.){pattern}(?:\.|$)", name):
            return dtype
    return meta.dtype
