"""Models as a maintainer names them → what a charter says of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from gridllm.charter.document import ModelEntry
from gridllm.errors import UsageError
from gridllm_bootstrap.founding.defaults import Shape

Progress = Callable[[str, int, int], None]
"""Called with a model's name, bytes digested, bytes in all."""

WIRE_DTYPES: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # safetensors name → ours
DEMO_DTYPE: Final = "float32"  # its weights ship as bfloat16 only to be small; old processors are slow in that


@dataclass(frozen=True, slots=True)
class ModelWish:
    """A model the maintainer wants served, as typed."""

    source: str  # "demo", a folder, or a Hub id
    revision: str | None
    dtype: str | None  # None: as stored


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that a grid can serve."""

    entry: ModelEntry
    manifest: bytes
    shape: Shape


def name_of(source: str) -> str:
    """What a model is called in the charter: a folder's name, or a Hub id's last part."""
    folder = Path(source).expanduser()
    return folder.resolve().name if _is_folder(source) else source.split("/")[-1]


def _is_folder(source: str) -> bool:
    from gridllm.models.files import DEMO

    return source != DEMO and Path(source).expanduser().is_dir()


def describe(wish: ModelWish, progress: Progress) -> Offer:
    """One model's charter entry, its manifest and its shape.

    Raises:
        ModelError: it cannot be found or served.
        UsageError: its name or dtype cannot stand in a charter.
    """
    from gridllm.admission.defaults import shape_of
    from gridllm.models.families import read_config
    from gridllm.models.files import DEMO, find_model
    from gridllm.models.manifest import build_manifest, manifest_bytes, root

    path = find_model(wish.source, wish.revision)
    from_folder, name = _is_folder(wish.source), name_of(wish.source)
    config = read_config(path)
    manifest = build_manifest(path, lambda done, total: progress(name, done, total))
    largest = max(manifest.tensors.values(), key=lambda tensor: tensor.size)
    fields = {
        "name": name,
        "root": root(manifest),
        "source": "local" if from_folder else wish.source,
        "revision": None if from_folder or wish.source == DEMO else wish.revision or path.name,  # a snapshot's commit
        "blocks": config.num_hidden_layers,
        "parameters": sum(math.prod(tensor.shape) for tensor in manifest.tensors.values()),
        "hidden_size": config.hidden_size,
        "dtype": wish.dtype or (DEMO_DTYPE if wish.source == DEMO else WIRE_DTYPES.get(largest.dtype, "float32")),
    }
    try:
        entry = ModelEntry.model_validate(fields)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(
            f"The model {wish.source!r} cannot stand in a charter: its {fault['loc'][0]} is {fault['input']!r} "
            f"({fault['msg']})."
        ) from error
    return Offer(entry, manifest_bytes(manifest), shape_of(entry, manifest))
