"""Weights read from safetensors by offset: one tensor at a time, straight into the memory it shall live in.

Files are read, never mapped: mapped pages count into a process's memory (PSS), and a node must not hold more than its
span.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gridllm.errors import ModelError
from gridllm.models.headers import FLOATS, ITEM_BYTES, OTHERS, Slot, opened, read_header, shard_map

if TYPE_CHECKING:
    import torch

PIECE_BYTES: Final = 1024 * 1024  # read, hash and convert in pieces that stay in the CPU's cache
INDEX_NAME: Final = "model.safetensors.index.json"
SINGLE_NAME: Final = "model.safetensors"


class Checkpoint:
    """All tensors of a model folder by name; holds headers, no data."""

    def __init__(self, slots: Mapping[str, Slot], absent: Mapping[str, str]) -> None:
        self.slots = dict(slots)
        self.absent = dict(absent)
        """Tensor name → shard file that the index names but the folder lacks (a partial download)."""

    @staticmethod
    def open(folder: Path) -> Checkpoint:
        """Read the headers of all safetensors files of ``folder`` (through its index, when it has one).

        Raises:
            ModelError: no safetensors, a malformed or truncated file, or an index that contradicts its files.
        """
        index = folder / INDEX_NAME
        if index.is_file():
            return _open_indexed(folder, shard_map(index))
        single = folder / SINGLE_NAME
        files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelError(
                f"{folder} holds no .safetensors files; GridLLM loads no other weight format (pickled weights can run "
                "code): convert the model with save_pretrained(safe_serialization=True)."
            )
        slots: dict[str, Slot] = {}
        for file in files:
            for name, slot in read_header(file).items():
                if name in slots:
                    raise ModelError(f"Tensor {name} occurs in both {slots[name].file.name} and {file.name}.")
                slots[name] = slot
        return Checkpoint(slots, {})

    @property
    def names(self) -> list[str]:
        """Names of all tensors, also of those in shards that are not here."""
        return sorted([*self.slots, *self.absent])

    def slot(self, name: str) -> Slot:
        """The slot of a tensor.

        Raises:
            ModelError: the model has no such tensor, or its shard is not in the folder.
        """
        found = self.slots.get(name)
        if found is not None:
            return found
        if name in self.absent:
            raise ModelError(f"Tensor {name} lies in {self.absent[name]}, which is not in the folder: download it.")
        raise ModelError(f"The model's files hold no tensor named {name}.")

    def read_into(self, name: str, out: torch.Tensor, *, sha256: str | None = None) -> None:
        """Fill ``out`` (same shape, any float dtype and device) with the tensor; at most one piece is held besides.

        Raises:
            ModelError: another shape, a dtype that cannot be converted, a short file, or bytes whose SHA-256 is not
                ``sha256``; ``out`` is garbage then.
        """
        slot = self.slot(name)
        if tuple(out.shape) != slot.shape:
            raise ModelError(
                f"Tensor {name} has shape {list(slot.shape)}, the model's config asks for {list(out.shape)}."
            )
        digest = hashlib.sha256() if sha256 is not None else None
        for piece, start, count in _pieces(name, slot, _direct_memory(slot, out)):
            if digest is not None:
                digest.update(piece)
            if start is not None:
                _convert(slot, piece, out, start, count)
        if digest is not None and digest.hexdigest() != sha256:
            raise ModelError(
                f"Tensor {name} in {slot.file} is not the one the manifest names (SHA-256 {digest.hexdigest()[:16]}…, "
                f"not {str(sha256)[:16]}…): the file is corrupt or of another model; download it again."
            )

    def digest(self, name: str) -> str:
        """Hex SHA-256 of a tensor's bytes as stored."""
        digest = hashlib.sha256()
        for piece, _, _ in _pieces(name, self.slot(name), None):
            digest.update(piece)
        return digest.hexdigest()


def _open_indexed(folder: Path, shards: Mapping[str, str]) -> Checkpoint:
    slots: dict[str, Slot] = {}
    absent: dict[str, str] = {}
    headers = {file: read_header(folder / file) for file in sorted(set(shards.values())) if (folder / file).is_file()}
    for name, file in shards.items():
        if file not in headers:
            absent[name] = file
        elif name in headers[file]:
            slots[name] = headers[file][name]
        else:
            raise ModelError(f"{folder / INDEX_NAME} says {file} holds {name}, and it does not: download it again.")
    return Checkpoint(slots, absent)


def _direct_memory(slot: Slot, out: torch.Tensor) -> memoryview | None:
    """The memory of ``out``, when the file's bytes can go there as they are."""
    import torch

    same = str(out.dtype).removeprefix("torch.") == FLOATS.get(slot.dtype, OTHERS.get(slot.dtype))
    if not (same and out.device.type == "cpu" and out.is_contiguous() and slot.size):
        return None
    return memoryview(out.detach().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # an array is a buffer


def _pieces(name: str, slot: Slot, memory: memoryview | None) -> Iterator[tuple[memoryview, int | None, int]]:
    """Yield (bytes, first element, elements) of each piece read; the first element is None when it is in place."""
    width = ITEM_BYTES[slot.dtype]
    staging = memoryview(bytearray(min(PIECE_BYTES, slot.size))) if memory is None else None
    with opened(slot.file) as stream:
        stream.seek(slot.offset)
        for begin in range(0, slot.size, PIECE_BYTES):
            count = min(PIECE_BYTES, slot.size - begin)
            piece = staging[:count] if staging is not None else memory[begin : begin + count]  # type: ignore[index]
            filled = 0
            while filled < count:
                got = stream.readinto(piece[filled:])
                if not got:
                    raise ModelError(f"{slot.file} ends in the midst of tensor {name}: download it again.")
                filled += got
            yield piece, None if staging is None else begin // width, count // width


def _convert(slot: Slot, piece: memoryview, out: torch.Tensor, start: int, count: int) -> None:
    """Elements [start, start + count) of ``out`` from raw bytes, cast to its dtype, moved to its device."""
    import torch

    source = FLOATS.get(slot.dtype) if out.is_floating_point() else OTHERS.get(slot.dtype)
    if source is None or not out.is_contiguous():
        raise ModelError(
            f"A tensor stored as {slot.dtype} in {slot.file.name} cannot become {out.dtype}; GridLLM serves weights "
            f"stored as {', '.join(FLOATS)}."
        )
    values = torch.frombuffer(piece, dtype=getattr(torch, source), count=count)
    out.view(-1)[start : start + count].copy_(values)
