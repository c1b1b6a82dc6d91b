"""What a manifest says of a model by itself: its numbers, and what must not be in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gridllm.errors import ModelError
from gridllm.models.headers import FLOATS, ITEM_BYTES
from gridllm.models.manifest import TOKENIZER_FILES, Manifest, weights_digest

MOST_TENSORS: Final = 50_000  # each takes a file on the leaderboard's disk
MOST_BLOCKS: Final = 4096  # as charter.document.ModelEntry
WIDEST: Final = 2**20  # hidden size; likewise
MOST_NUMBERS: Final = 2**24  # of a config's whole numbers: a vocabulary, positions, a width
DEEPEST: Final = 16  # levels of a config
MOST_VALUES: Final = 50_000  # in a config
LONGEST_TEXT: Final = 64 * 1024  # of one text in a config
BLOCK_KEYS: Final = ("num_hidden_layers", "n_layer", "num_layers")
WIDTH_KEYS: Final = ("hidden_size", "n_embd", "d_model")


@dataclass(frozen=True, slots=True)
class Facts:
    """The numbers that a submission states."""

    parameters: int
    size: int  # bytes of weights
    weights: str  # models.manifest.weights_digest


def facts_of(manifest: Manifest) -> Facts:
    """As the manifest has them; a tensor that is stored twice counts twice."""
    entries = manifest.tensors.values()
    return Facts(
        sum(math.prod(one.shape) for one in entries), sum(one.size for one in entries), weights_digest(manifest)
    )


def check_manifest(manifest: Manifest) -> None:
    """Whether a model of that manifest may be looked at at all. Quick; imports nothing large.

    Raises:
        ModelError: it contradicts itself, asks for code, or is out of all bounds.
    """
    if len(manifest.tensors) > MOST_TENSORS:
        raise ModelError(f"The model has {len(manifest.tensors):,} tensors; at most {MOST_TENSORS:,} are taken.")
    sizes: dict[str, int] = {}
    for name, one in manifest.tensors.items():
        width = ITEM_BYTES.get(one.dtype)
        if width is None or math.prod(one.shape) * width != one.size:
            raise ModelError(
                f"Tensor {name[:80]} of type {one.dtype} and shape {one.shape} cannot have {one.size} bytes."
            )
        if sizes.setdefault(one.sha256, one.size) != one.size:
            raise ModelError(f"Tensor {name[:80]} has the digest of one of another size.")
    if not any(one.dtype in FLOATS for one in manifest.tensors.values()):
        raise ModelError(f"The model has no weights stored as {', '.join(FLOATS)}: quantised weights are not accepted.")
    if not manifest.tokenizer.keys() - {"chat_template.jinja"}:
        raise ModelError("The model has no tokenizer: put its tokenizer.json into the folder.")
    unknown = sorted(manifest.tokenizer.keys() - set(TOKENIZER_FILES))
    if unknown:
        raise ModelError(f"{unknown[0]} is no tokenizer file that GridLLM reads.")
    check_config(manifest.config)
    check_config(manifest.generation_config or {}, "generation_config.json")


def check_config(config: dict[str, Any], file: str = "config.json") -> None:
    """Plain, bounded data, and no word of code.

    Raises:
        ModelError: otherwise.
    """
    for count, (key, value) in enumerate(_values(config, file)):
        if count > MOST_VALUES:
            raise ModelError(f"{file} has more than {MOST_VALUES:,} values: it is not a model's config.")
        if key in ("auto_map", "custom_pipelines", "custom_generate"):
            raise ModelError(
                f"{file} asks for code of the model's own ({key}); GridLLM runs no code from a model: remove it if "
                "transformers knows the family itself."
            )
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ModelError(f"{file} has a text of {len(value):,} characters under {key!r}.")
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _most(key):
            raise ModelError(f"{file} says {key} is {str(value)[:40]}, which no model has: at most {_most(key):,}.")


def _most(key: str) -> int:
    if key in BLOCK_KEYS:
        return MOST_BLOCKS
    if key in WIDTH_KEYS:
        return WIDEST
    return MOST_NUMBERS * 64 if "position" in key or "length" in key else MOST_NUMBERS


def _values(value: object, file: str, key: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """(key, value) of all that is in nested data, containers included."""
    if depth > DEEPEST:
        raise ModelError(f"{file} is nested deeper than {DEEPEST} levels: it is not a model's config.")
    yield key, value
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _values(one, file, str(name), depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _values(one, file, key, depth + 1)
