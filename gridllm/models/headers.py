"""Where tensors lie in safetensors files: their headers and the index of shards, every number checked.

The format: 8 bytes little-endian header length, a JSON header (name → dtype, shape, data_offsets), then the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final

from gridllm.errors import ModelError

MAX_HEADER_BYTES: Final = 100_000_000  # the format's own cap

ITEM_BYTES: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
FLOATS: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
OTHERS: Final = {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one tensor lies."""

    file: Path
    dtype: str  # the format's name: F32, BF16, …
    shape: tuple[int, ...]
    offset: int  # of its first byte, from the start of the file
    size: int  # bytes


def read_header(file: Path) -> dict[str, Slot]:
    """The slots of one safetensors file, every number checked.

    Raises:
        ModelError: not a safetensors file, or one that is truncated or contradicts itself.
    """
    with opened(file) as stream:
        size = file.stat().st_size
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ModelError(f"{file} is not a safetensors file, or it is truncated: download it again.")
        raw = stream.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} has a corrupt safetensors header ({error}): download it again.") from error
    if not isinstance(header, dict):
        raise ModelError(f"{file} has a corrupt safetensors header (not an object): download it again.")
    header.pop("__metadata__", None)
    slots = {name: _parse_slot(file, name, entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for name, slot in sorted(slots.items(), key=lambda item: (item[1].offset, item[1].size)):
        if slot.offset != end:
            raise ModelError(f"{file} has a corrupt safetensors header (tensor {name} overlaps or leaves a gap).")
        end = slot.offset + slot.size
    if end != size:
        raise ModelError(f"{file} should have {end} bytes and has {size}: it is damaged; download it again.")
    return slots


def shard_map(index: Path) -> dict[str, str]:
    """Tensor name → shard file name, from ``model.safetensors.index.json``.

    Raises:
        ModelError: the index does not parse, or names a file outside its folder.
    """
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        shards = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ModelError(f"{index} is not an index of safetensors shards ({error}): download it again.") from error
    for file in set(shards.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelError(f"{index} names {file!r}, which is not a safetensors file of the same folder.")
    return shards


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _parse_slot(file: Path, name: str, entry: object, base: int) -> Slot:
    """One header entry → slot; ``base`` is where the data begins."""
    try:
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]  # type: ignore[index]
        begin, end = offsets
        size = ITEM_BYTES[dtype]
        numbers = [begin, end, *shape]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} describes tensor {name[:80]} in a way GridLLM cannot read ({error!r}).") from error
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise ModelError(f"{file} gives tensor {name[:80]} an impossible shape or offset.")
    for dimension in shape:
        size *= dimension
    if end - begin != size:
        raise ModelError(f"{file} gives tensor {name[:80]} {end - begin} bytes where its shape needs {size}.")
    return Slot(file, dtype, tuple(shape), base + begin, size)


@contextmanager
def opened(file: Path) -> Iterator[FileIO]:
    """The file's bytes, unbuffered. Raises ModelError."""
    try:
        with file.open("rb", buffering=0) as stream:
            yield stream
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror or error}.") from error
