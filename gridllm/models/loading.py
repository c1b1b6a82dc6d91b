"""Fill a model on the meta device with only the tensors of the modules it kept.

Checkpoint names are translated by transformers' own rules (prefixes, renamings, merged experts). What those rules only
rename or stack is read straight into its final place; what they really compute goes through their converter, one
target at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from gridllm.errors import ModelError
from gridllm.models.inventory import Inventory, Recipe, dtype_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gridllm.models.manifest import Manifest
    from gridllm.models.weights import Checkpoint

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def fill(
    inventory: Inventory,
    checkpoint: Checkpoint,
    manifest: Manifest | None,
    *,
    device: torch.device,
    layers: tuple[str, int, int] | None,
    progress: Progress | None = None,
) -> None:
    """Load what the model kept, tie shared tensors, give buffers their values.

    Args:
        layers: (name of the layer list, start, end): checkpoint names of other blocks are skipped unread. None: of all.

    Raises:
        ModelError: tensors missing, of another shape, corrupt, or not those of ``manifest``.
    """
    model = inventory.model
    recipes = inventory.recipes(_relevant(checkpoint.names, layers))
    kept = inventory.kept()
    tied = _tied_pairs(inventory, kept, recipes, checkpoint, manifest)
    wanted = [recipes[name] for name in kept if name in recipes and name not in tied]
    total = sum(checkpoint.slot(source).size for recipe in wanted for source, _ in recipe.sources)
    done = 0
    for recipe in wanted:
        _load(inventory, recipe, checkpoint, manifest, device)
        done += sum(checkpoint.slot(source).size for source, _ in recipe.sources)
        if progress is not None:
            progress(done, total)
    for target, source in tied.items():
        owner, leaf = inventory.owners[target]
        source_owner, source_leaf = inventory.owners[source]
        setattr(owner, leaf, getattr(source_owner, source_leaf))
    missing = [name for name, parameter in model.named_parameters() if parameter.device.type == "meta"]
    if missing:
        raise ModelError(
            f"The model's files lack {len(missing)} tensors that its config asks for, such as {missing[0]}: they are "
            "incomplete or of another model."
        )
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    initialise(model, device)


def _relevant(names: Iterable[str], layers: tuple[str, int, int] | None) -> list[str]:
    """Names outside the layer list, and those of its blocks [start, end)."""
    if layers is None:
        return list(names)
    attribute, start, end = layers
    pattern = re.compile(rf"(?:^|\.){re.escape(attribute)}\.(\d+)\.")
    relevant = []
    for name in names:
        match = pattern.search(name)
        if match is None or start <= int(match.group(1)) < end:
            relevant.append(name)
    return relevant


def _tied_pairs(
    inventory: Inventory,
    kept: list[str],
    recipes: Mapping[str, Recipe],
    checkpoint: Checkpoint,
    manifest: Manifest | None,
) -> dict[str, str]:
    """Target → source of tensors that share memory. As from_pretrained: whichever is stored; both only when equal."""
    pairs: dict[str, str] = {}
    for target, source in inventory.tied.items():
        if target not in kept or source not in kept:
            continue
        if target in recipes and source in recipes:
            digests = {_digest(recipes[name].sources[0][0], checkpoint, manifest) for name in (target, source)}
            if len(digests) > 1:
                continue
        if source in recipes:
            pairs[target] = source
        elif target in recipes:
            pairs[source] = target
    return pairs


def _digest(name: str, checkpoint: Checkpoint, manifest: Manifest | None) -> str:
    if manifest is not None and name in manifest.tensors:
        return manifest.tensors[name].sha256
    return checkpoint.digest(name)


def _load(
    inventory: Inventory, recipe: Recipe, checkpoint: Checkpoint, manifest: Manifest | None, device: torch.device
) -> None:
    meta = inventory.meta[recipe.target]
    model = inventory.model
    dtype = dtype_for(recipe.target, meta, model)
    views: list[tuple[str, torch.Tensor]] | None
    if recipe.converter is None:
        out = torch.empty(meta.shape, dtype=dtype, device=device)
        views = [(recipe.sources[0][0], out)]
    else:
        views = None
        if _only_stacks(recipe):
            out = torch.empty(meta.shape, dtype=dtype, device=device)
            views = _stack_views(recipe, checkpoint, out)
    if views is not None:
        for name, view in views:
            checkpoint.read_into(name, view, sha256=_expected(name, manifest))
        place(inventory, recipe.target, out)
        return
    converted = _convert(inventory, recipe, checkpoint, manifest, dtype)
    for target, tensor in converted.items():
        if target in inventory.owners:
            place(inventory, target, tensor.to(device=device, dtype=dtype))


def _expected(name: str, manifest: Manifest | None) -> str | None:
    if manifest is None:
        return None
    entry = manifest.tensors.get(name)
    if entry is None:
        raise ModelError(f"Tensor {name} is not in the grid's manifest of this model: the folder holds another model.")
    return entry.sha256


def _only_stacks(recipe: Recipe) -> bool:
    """Whether the converter does no more than stack experts, or stack them and join two matrices per expert."""
    operations = [(type(step).__name__, getattr(step, "dim", None)) for step in recipe.converter.operations]
    return operations in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)])


def _stack_views(recipe: Recipe, checkpoint: Checkpoint, out: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
    """Where each source goes in ``out`` [experts, rows, …]; None when they do not fill it exactly."""
    views = []
    row = 0
    for pattern in recipe.converter.source_patterns:
        names = [name for name, rule in recipe.sources if rule == pattern]
        if len(names) != out.shape[0]:
            return None
        rows = checkpoint.slot(names[0]).shape[0]
        views += [(name, out[expert, row : row + rows]) for expert, name in enumerate(names)]
        row += rows
    return views if row == out.shape[1] else None


def _convert(
    inventory: Inventory, recipe: Recipe, checkpoint: Checkpoint, manifest: Manifest | None, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Run transformers' converter on the sources, which are all held meanwhile."""
    import copy

    converter = copy.deepcopy(recipe.converter)
    for name, pattern in recipe.sources:
        source = torch.empty(checkpoint.slot(name).shape, dtype=dtype)
        checkpoint.read_into(name, source, sha256=_expected(name, manifest))
        converter.add_tensor(recipe.target, name, pattern, source)
    try:
        made = converter.convert(recipe.target, model=inventory.model, config=inventory.model.config)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"The tensors of {recipe.target} do not fit the model's config: {error}") from error
    return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


def place(inventory: Inventory, name: str, tensor: torch.Tensor) -> None:
    """Put a loaded tensor into its module and mark it, so that transformers' initialisation leaves it alone."""
    expected = inventory.meta[name].shape
    if tensor.shape != expected:
        raise ModelError(f"Tensor {name} has shape {list(tensor.shape)}; the config asks for {list(expected)}.")
    owner, leaf = inventory.owners[name]
    if leaf in owner._parameters:
        tensor = torch.nn.Parameter(tensor, requires_grad=False)
    tensor._is_hf_initialized = True  # type: ignore[attr-defined]
    setattr(owner, leaf, tensor)


def initialise(model: PreTrainedModel, device: torch.device) -> None:
    """Give what no file holds (rotary frequencies, embedding scales) memory and its values.

    transformers' own ``initialize_weights`` fills it; it skips every tensor that ``place`` marked.
    """
    for module in model.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.device.type == "meta":
                module._buffers[name] = torch.empty_like(buffer, device=device)
    model.initialize_weights()
