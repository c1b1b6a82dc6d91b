"""A model's manifest: the digests that name it, whatever files or shards it came in.

The manifest's canonical JSON is hashed to the model's root. Two folders with equal config, tokenizer and tensors have
one root even when their shards differ; peers with another root never serve in one chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gridllm.charter.fetch import MAX_MANIFEST_BYTES
from gridllm.errors import ModelError
from gridllm.ids import ModelRoot
from gridllm.models.families import family_of, read_config, read_config_json
from gridllm.models.weights import Checkpoint
from gridllm.wire.strict import read

MAX_TENSORS: Final = 400_000
MAX_SMALL_FILE_BYTES: Final = 64 * 1024 * 1024  # of a tokenizer file

VOLATILE: Final = frozenset({"transformers_version", "_name_or_path", "use_cache", "_commit_hash", "architectures"})
"""Config keys that say how a file came about, not what the model computes."""

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
TensorName = Annotated[str, Meta(min_length=1, max_length=512)]


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as stored in the checkpoint."""

    dtype: Annotated[str, Meta(max_length=8)]  # safetensors name: F32, BF16, …
    shape: Annotated[list[Annotated[int, Meta(ge=0, lt=2**48)]], Meta(max_length=8)]
    size: Annotated[int, Meta(ge=0, lt=2**48)]  # bytes
    sha256: Digest  # over the stored bytes


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model is. Checked against files while they are read."""

    format: Literal[1]
    family: Annotated[str, Meta(max_length=64)]  # model_type of the config
    config: dict[str, Any]  # config.json without volatile keys
    generation_config: dict[str, Any] | None  # generation_config.json without volatile keys, if the model has one
    tokenizer: Annotated[dict[Annotated[str, Meta(max_length=128)], Digest], Meta(max_length=64)]  # file → SHA-256
    tensors: Annotated[dict[TensorName, TensorEntry], Meta(min_length=1, max_length=MAX_TENSORS)]

    def check_config(self, folder: Path) -> None:
        """Compare the folder's config with the manifest's.

        Raises:
            ModelError: they differ, with the first key that does.
        """
        here = _normalised(read_config_json(folder))
        for key in sorted(here.keys() | self.config.keys()):
            if here.get(key) != self.config.get(key):
                raise ModelError(
                    f"config.json in {folder} is not the grid's: {key} is {here.get(key)!r} here and "
                    f"{self.config.get(key)!r} in the manifest."
                )

    def check_tokenizer(self, folder: Path) -> None:
        """Compare the folder's tokenizer files with the manifest's.

        Raises:
            ModelError: one is missing, altered, or not in the manifest.
        """
        here = _tokenizer_digests(folder)
        for name in sorted(here.keys() | self.tokenizer.keys()):
            if here.get(name) != self.tokenizer.get(name):
                state = "is missing" if name not in here else "is not the grid's"
                raise ModelError(f"Tokenizer file {name} in {folder} {state}: download the model again.")


def build_manifest(folder: Path, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """Read a whole model folder and digest it. ``progress(bytes done, bytes in all)`` is called after each tensor.

    Raises:
        ModelError: an unsupported or damaged model.
    """
    read_config(folder)
    return digest_folder(folder, progress)


def digest_folder(folder: Path, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """``build_manifest`` of a model that is looked at elsewhere: whether its family is supported is not asked here.

    It imports nothing large, so that it takes a tenth of the time for a small model.

    Raises:
        ModelError: a file is missing or damaged.
    """
    checkpoint = Checkpoint.open(folder)
    total = sum(slot.size for slot in checkpoint.slots.values())
    tensors: dict[str, TensorEntry] = {}
    done = 0
    for name in checkpoint.names:
        slot = checkpoint.slot(name)
        tensors[name] = TensorEntry(slot.dtype, list(slot.shape), slot.size, checkpoint.digest(name))
        done += slot.size
        if progress is not None:
            progress(done, total)
    return Manifest(
        format=1,
        family=family_of(folder),
        config=_normalised(read_config_json(folder)),
        generation_config=_generation_config(folder),
        tokenizer=_tokenizer_digests(folder),
        tensors=tensors,
    )


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical JSON: sorted keys, no spaces, UTF-8.

    Raises:
        ModelError: the config holds a value JSON has no word for (NaN, infinity), or the manifest is too large.
    """
    try:
        text = json.dumps(
            msgspec.to_builtins(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        raw = text.encode()
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The model's config cannot be written as plain JSON: {error}.") from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ModelError(f"A manifest of {len(raw)} bytes exceeds the cap of {MAX_MANIFEST_BYTES}.")
    return raw


def root(manifest: Manifest) -> ModelRoot:
    """The model's name among peers: SHA-256 of the canonical manifest, lower-case hex."""
    return ModelRoot(hashlib.sha256(manifest_bytes(manifest)).hexdigest())


def weights_digest(manifest: Manifest) -> str:
    """Hex SHA-256 over all tensors, by name: the same for equal weights, whatever config and tokenizer say."""
    lines = (f"{name}\t{one.dtype}\t{one.shape}\t{one.sha256}\n" for name, one in sorted(manifest.tensors.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_manifest(raw: bytes) -> Manifest:
    """Manifest text from a stranger → manifest, strictly.

    Raises:
        ModelError: oversized, malformed, or values outside their bounds.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ModelError(f"A manifest of {len(raw)} bytes exceeds the cap of {MAX_MANIFEST_BYTES}.")
    return read(_decoder, raw, "A model manifest", ModelError)


def verify_manifest(raw: bytes, expected: ModelRoot) -> Manifest:
    """Parse a manifest and verify that it is the one named ``expected``.

    Raises:
        ModelError: malformed, or its root is another.
    """
    manifest = parse_manifest(raw)
    actual = root(manifest)
    if actual != expected:
        raise ModelError(f"A peer sent the manifest of model {actual[:16]}… where {expected[:16]}… was asked for.")
    return manifest


_decoder = msgspec.json.Decoder(Manifest)


def _normalised(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in VOLATILE}
    if "torch_dtype" in kept:  # the name transformers 4 used
        kept.setdefault("dtype", kept.pop("torch_dtype"))
        kept.pop("torch_dtype", None)
    return kept


def _generation_config(folder: Path) -> dict[str, Any] | None:
    file = folder / "generation_config.json"
    if not file.is_file():
        return None
    try:
        data = json.loads(_small_file(file))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file} is not a JSON object.")
    return _normalised(data)


def _tokenizer_digests(folder: Path) -> dict[str, str]:
    present = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return {name: hashlib.sha256(_small_file(folder / name)).hexdigest() for name in present}


def _small_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_SMALL_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_SMALL_FILE_BYTES:
        raise ModelError(f"{file} is larger than {MAX_SMALL_FILE_BYTES} bytes: it is no tokenizer file.")
    return raw
