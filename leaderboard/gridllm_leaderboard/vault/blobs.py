"""Tensors and files by the digest of their bytes, each written once; models hold links to them.

A tensor's file has a header with its name (models/cached.py), so one digest may stand there under several headers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from gridllm.models.cached import Item
from gridllm.models.manifest import Manifest

RAW: Final = "raw"  # variant without a header: a file of a tokenizer
COPY_BYTES: Final = 4 * 1024 * 1024
ABANDONED_S: Final = 3600.0  # a copy that nobody wrote to for so long belongs to a process that was killed


class Blobs:
    """``folder/ab/abcdef…/<variant>``. Methods block; they raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, item: Item) -> Path:
        """Where the blob of an item is, or will be."""
        return self._of(item.sha256) / variant(item.header)

    def has(self, digest: str) -> bool:
        """Whether these bytes are here, under whatever header."""
        return any(self._variants(digest))

    def put(self, item: Item) -> bool:
        """Have the item's own blob, copied from one of another header where need be; False: these bytes are not here.

        Raises:
            ValueError: they have another size than the item.
        """
        own = self.path(item)
        source = own if own.is_file() else next(iter(self._variants(item.sha256)), None)
        if source is None:
            return False
        begins = _data_begins(source)
        if item.size is not None and source.stat().st_size - begins != item.size:
            raise ValueError(f"{item.name[:200]} has another size than its digest says")
        if source != own:
            _copy(source, begins, own, item.header)
        return True

    def replace(self, item: Item) -> None:
        """Have the file at the item's path, which is what its digest says, in place of whatever is here."""
        place = self.path(item)
        place.parent.mkdir(parents=True, exist_ok=True)
        link = place.with_name(f".{place.name}")
        link.unlink(missing_ok=True)
        os.link(item.path, link)
        link.replace(place)

    def digests(self) -> list[str]:
        """All that is here."""
        return [found.name for found in self._folder.glob("??/*") if found.is_dir()]

    def collect(self, digests: Iterable[str], wanted: Collection[str]) -> int:
        """Remove what no model links to, of ``digests`` without ``wanted``; returns the bytes that became free."""
        freed = 0
        for digest in digests:
            if digest in wanted:
                continue
            for blob in self._variants(digest):
                facts = blob.stat()
                if facts.st_nlink == 1:
                    blob.unlink(missing_ok=True)
                    freed += facts.st_size
            for copy in self._of(digest).glob(".*"):
                if copy.stat().st_mtime < time.time() - ABANDONED_S:
                    copy.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of this digest stay
                self._of(digest).rmdir()
        return freed

    def _of(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _variants(self, digest: str) -> list[Path]:
        try:
            return [blob for blob in self._of(digest).iterdir() if not blob.name.startswith(".")]
        except FileNotFoundError:
            return []


def digests_of(manifest: Manifest) -> list[str]:
    """Of all that a model is made of."""
    return [*(entry.sha256 for entry in manifest.tensors.values()), *manifest.tokenizer.values()]


def sync(folder: Path) -> None:
    """What was renamed in a folder is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def variant(header: bytes) -> str:
    """Name of the blob with that header."""
    return hashlib.sha256(header).hexdigest()[:32] if header else RAW


def _data_begins(blob: Path) -> int:
    """Bytes of the header that stands before the data."""
    if blob.name == RAW:
        return 0
    with blob.open("rb") as file:
        return 8 + int(struct.unpack("<Q", file.read(8))[0])


def _copy(source: Path, begins: int, place: Path, header: bytes) -> None:
    """The same bytes under another header, synced."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".")
    try:
        with source.open("rb") as old, os.fdopen(handle, "wb") as new:
            old.seek(begins)
            new.write(header)
            shutil.copyfileobj(old, new, COPY_BYTES)
            new.flush()
            os.fchmod(new.fileno(), 0o644)
            os.fsync(new.fileno())
        Path(name).replace(place)
    finally:
        Path(name).unlink(missing_ok=True)
