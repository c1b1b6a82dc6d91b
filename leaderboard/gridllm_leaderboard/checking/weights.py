"""Whether a model's tensors are all there, of the right shape, and numbers. Reads strangers' files: in a child only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final

import torch

from gridllm.errors import ModelError
from gridllm.models.families import build_meta, plain_attention, read_config
from gridllm.models.headers import FLOATS, Slot
from gridllm.models.inventory import Inventory, Recipe
from gridllm.models.weights import Checkpoint

PIECE_BYTES: Final = 4 * 1024 * 1024  # looked at at once
MOST_EXTRA: Final = 0.1  # share of the bytes that may lie in tensors which the model does not use (old buffers)


def check_shapes(folder: Path) -> int:
    """Build the model without weights and compare; returns the rows of its token embedding.

    Raises:
        ModelError: an unsupported family; tensors missing, of another shape or type, or far too many.
    """
    config = read_config(folder)
    model = build_meta(config, dtype=torch.float32, attn=plain_attention(config))
    checkpoint, inventory = Checkpoint.open(folder), Inventory(model)
    recipes = inventory.recipes(checkpoint.names)
    tied = {**inventory.tied, **{source: target for target, source in inventory.tied.items()}}
    wanted = [name for name, _ in model.named_parameters()]
    missing = [name for name in wanted if name not in recipes and tied.get(name) not in recipes]
    if missing:
        raise ModelError(
            f"The model's files lack {len(missing)} tensors that its config asks for, such as {missing[0]}."
        )
    for recipe in recipes.values():
        _check_recipe(inventory, recipe, checkpoint)
    used = {name for recipe in recipes.values() for name, _ in recipe.sources}
    total = sum(slot.size for slot in checkpoint.slots.values())
    extra = sorted(checkpoint.slots.keys() - used)
    if sum(checkpoint.slots[name].size for name in extra) > MOST_EXTRA * total:
        raise ModelError(
            f"{len(extra)} of the tensors do not belong to the model, such as {extra[0][:80]}: remove them."
        )
    return int(model.get_input_embeddings().weight.shape[0])


def check_finite(folder: Path) -> None:
    """Read all weights once.

    Raises:
        ModelError: one holds NaN or infinity.
    """
    checkpoint = Checkpoint.open(folder)
    for name in checkpoint.names:
        slot = checkpoint.slot(name)
        if slot.dtype in FLOATS and not _is_finite(slot):
            raise ModelError(f"Tensor {name[:200]} holds NaN or infinity: the model is broken.")


def _check_recipe(inventory: Inventory, recipe: Recipe, checkpoint: Checkpoint) -> None:
    meta = inventory.meta[recipe.target]
    for name, _ in recipe.sources:
        if meta.is_floating_point() and checkpoint.slot(name).dtype not in FLOATS:
            raise ModelError(
                f"Tensor {name[:200]} is stored as {checkpoint.slot(name).dtype}; GridLLM serves {', '.join(FLOATS)}."
            )
    if recipe.converter is None:
        made = {recipe.target: checkpoint.slot(recipe.sources[0][0]).shape}
    else:
        made = _converted(inventory, recipe, checkpoint)
    for target, shape in made.items():
        asked = inventory.meta.get(target)
        if asked is not None and tuple(shape) != tuple(asked.shape):
            raise ModelError(
                f"Tensor {recipe.sources[0][0][:200]} has shape {list(shape)}; the config asks for {list(asked.shape)}."
            )


def _converted(inventory: Inventory, recipe: Recipe, checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Shapes that transformers' converter (it merges experts, say) would make, without any data."""
    converter = copy.deepcopy(recipe.converter)
    for name, pattern in recipe.sources:
        converter.add_tensor(recipe.target, name, pattern, torch.empty(checkpoint.slot(name).shape, device="meta"))
    try:
        made: dict[str, Any] = converter.convert(recipe.target, model=inventory.model, config=inventory.model.config)
    except (ValueError, RuntimeError, KeyError, IndexError) as error:
        raise ModelError(f"The tensors of {recipe.target[:200]} do not fit the model's config: {error}") from error
    return {name: tuple((one[0] if isinstance(one, list) else one).shape) for name, one in made.items()}


def _is_finite(slot: Slot) -> bool:
    memory = bytearray(min(PIECE_BYTES, slot.size))
    view = memoryview(memory)
    dtype = getattr(torch, FLOATS[slot.dtype])
    with slot.file.open("rb", buffering=0) as file:
        file.seek(slot.offset)
        for begin in range(0, slot.size, PIECE_BYTES):
            count, filled = min(PIECE_BYTES, slot.size - begin), 0
            while filled < count:
                got = file.readinto(view[filled:count])
                if not got:
                    raise ModelError(f"{slot.file.name} is truncated.")
                filled += got
            if not bool(torch.isfinite(torch.frombuffer(memory, dtype=dtype, count=count // dtype.itemsize)).all()):
                return False
    return True
