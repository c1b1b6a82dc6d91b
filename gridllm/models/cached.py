"""A model's folder in the cache, filled tensor by tensor: what is fetched from seeds is kept there for the next start.

::

    cache_dir/models/<root>/config.json, generation_config.json   as the manifest has them
    cache_dir/models/<root>/tokenizer.json, …                     checked by their digests
    cache_dir/models/<root>/<digest of the name>.safetensors      one tensor each

One file for each tensor: any number of processes may fill the folder at once, and any span may be added later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import ModelError, NoRoomError
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.families import layout_of, read_config
from gridllm.models.files import needed_tensors
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES, TOKENIZER_FILES, Manifest

PART_PREFIX: Final = ".part-"
ABANDONED_S: Final = 3600.0  # a part that nobody wrote to for so long belongs to a process that was killed
SPARE_BYTES: Final = 64 * 1024 * 1024  # left free on the disk


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor or tokenizer file to be fetched."""

    name: str
    file: bool  # a tokenizer file
    size: int | None  # bytes; None: not known before the first piece comes
    sha256: str
    path: Path  # where it shall be
    header: bytes  # what stands before it there


def model_folder(cache_dir: Path, root: ModelRoot) -> Path:
    """Where one model's files are kept."""
    return cache_dir / "models" / root


class CachedModel:
    """The folder of one model."""

    def __init__(self, cache_dir: Path, root: ModelRoot, manifest: Manifest) -> None:
        self.folder = model_folder(cache_dir, root)
        self.root = root
        self._manifest = manifest

    def prepare(self) -> None:
        """Make the folder with all that the manifest holds itself, and sweep out what was left half-fetched.

        Raises:
            ModelError: it cannot be written.
        """
        try:
            make_private_dir(self.folder)
            self._write_json("config.json", self._manifest.config)
            if self._manifest.generation_config is not None:
                self._write_json("generation_config.json", self._manifest.generation_config)
            for part in self.folder.glob(f"{PART_PREFIX}*"):
                with contextlib.suppress(FileNotFoundError):
                    if part.stat().st_mtime < time.time() - ABANDONED_S:
                        part.unlink()
        except OSError as error:
            raise ModelError(f"The cache {self.folder} cannot be written ({error.strerror}).") from error

    def items(self) -> list[Item]:
        """All tensors and tokenizer files that the manifest names, here or not."""
        return [*map(self._tensor, self._manifest.tensors), *self._tokenizer()]

    def lacking(self, blocks: tuple[int, int] | None, ends: bool | None) -> list[Item]:
        """What is not here yet; ``blocks`` and ``ends`` as for ``find_model``. The folder must be prepared.

        Raises:
            NoRoomError: the disk has no room for it.
            ModelError: the family is not supported.
        """
        layers = layout_of(read_config(self.folder)).layers
        names = needed_tensors(self._manifest.tensors, layers, blocks, ends)
        items = [item for item in map(self._tensor, names) if not _complete(item)]
        if ends or (blocks is None and ends is None):
            items += [item for item in self._tokenizer() if not _complete(item)]
        needed = sum(item.size or 0 for item in items)
        free = shutil.disk_usage(self.folder).free
        if items and needed + SPARE_BYTES > free:
            raise NoRoomError(
                f"{needed / 1e9:.1f} GB of weights are to be fetched, and the disk of {self.folder} has "
                f"{free / 1e9:.1f} GB free; make room, or set GRIDLLM_CACHE_DIR to a folder on another disk."
            )
        return items

    def _tensor(self, name: str) -> Item:
        entry = self._manifest.tensors[name]
        described = {name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [0, entry.size]}}
        raw = json.dumps(described, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)  # the format asks for data that is aligned
        path = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.safetensors"
        return Item(name, False, entry.size, entry.sha256, path, struct.pack("<Q", len(raw)) + raw)

    def _tokenizer(self) -> list[Item]:
        known = {name: digest for name, digest in self._manifest.tokenizer.items() if name in TOKENIZER_FILES}
        return [Item(name, True, None, digest, self.folder / name, b"") for name, digest in known.items()]

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        if not (self.folder / name).is_file():
            write_atomically(self.folder / name, json.dumps(value, indent=1).encode())


class Part:
    """One item on its way. Methods that write are called in threads, one at a time, except ``drop``."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.size = item.size
        self.offset = 0  # bytes that came so far
        self.senders: set[PeerId] = set()  # of these bytes
        self.whole = False  # it was spoilt by one of several senders: the next try is to be of a single one
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._temporary = Path()
        self._writing = threading.Lock()  # a thread outlives the task that waited for it

    @property
    def complete(self) -> bool:
        """Whether all bytes came; they are not checked yet."""
        return self.offset == self.size

    def add(self, data: bytes | bytearray) -> None:
        """The next bytes.

        Raises:
            ModelError: the disk does not take them.
        """
        with self._writing:
            try:
                if self._file is None:
                    handle, name = tempfile.mkstemp(dir=self.item.path.parent, prefix=PART_PREFIX)
                    self._temporary, self._file = Path(name), os.fdopen(handle, "wb")
                    self._file.write(self.item.header)
                self._file.write(data)
            except OSError as error:
                raise ModelError(f"Weights cannot be written to {self.item.path.parent} ({error.strerror}).") from error
            self._digest.update(data)
            self.offset += len(data)

    def finish(self) -> bool:
        """Put the file in its place; False, and nothing is kept, when its digest is not the manifest's.

        Raises:
            ModelError: the disk does not take it.
        """
        self.add(b"")  # an empty tensor has a file, too
        with self._writing:
            if self._file is None or self._digest.hexdigest() != self.item.sha256:
                self._forget()
                return False
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.chmod(0o644)
                self._temporary.replace(self.item.path)
            except OSError as error:
                raise ModelError(f"Weights cannot be written to {self.item.path.parent} ({error.strerror}).") from error
            self._file = None
            return True

    def drop(self) -> None:
        """Begin anew, or give up."""
        with self._writing:
            self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
        self._file, self._digest = None, hashlib.sha256()
        self.size, self.offset, self.senders = self.item.size, 0, set()


def _complete(item: Item) -> bool:
    """Whether the file is here. A tensor's digest is checked whenever it is loaded."""
    try:
        if item.size is not None:
            return item.path.stat().st_size == len(item.header) + item.size
        if item.path.stat().st_size > MAX_SMALL_FILE_BYTES:
            return False
        return hashlib.sha256(item.path.read_bytes()).hexdigest() == item.sha256
    except OSError:
        return False
