"""Models on the leaderboard's disk.

::

    folder/blobs/ab/abcdef…/…        tensors and files by their digest, each once
    folder/models/<root>/…           whole models, as models/cached.py lays them out; links to blobs
    folder/manifests/<root>.json     of the whole ones
    folder/incoming/<root>/…         on their way: the manifest, and <digest>.part

What is under ``models`` and ``blobs`` was checked by its digests and synced. A model is whole once its folder is there.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import ModelError
from gridllm.ids import ModelRoot
from gridllm.models.cached import CachedModel, Item, model_folder
from gridllm.models.manifest import Manifest, manifest_bytes, parse_manifest, verify_manifest
from gridllm_leaderboard.vault.blobs import Blobs, digests_of, sync
from gridllm_leaderboard.vault.part import Part
from gridllm_leaderboard.vault.room import SPARE_BYTES, Room

FILE_COST_BYTES: Final = 8 * 1024  # of a small file on disk, beside what is in it
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Lack:
    """What is to come: one digest, from a byte on."""

    item: Item
    offset: int  # bytes that are here


class Vault:
    """The weights of all submissions. Methods read and write files: call them in threads.

    Raises:
        OSError: its folder cannot be made.
    """

    def __init__(self, folder: Path, *, spare_bytes: int = SPARE_BYTES) -> None:
        self._folder = folder
        self._blobs = Blobs(folder / "blobs")
        self._sweeping = threading.Lock()  # what was said to be here is not swept out before it is used
        for name in ("blobs", "models", "manifests", "incoming"):
            make_private_dir(folder / name)
        self.room = Room(folder, spare_bytes)

    # whole models

    def folder(self, root: str) -> Path | None:
        """The files of a model that is whole; None: it is not."""
        found = self._model(root)
        return found if found.is_dir() else None

    def manifest(self, root: str) -> Manifest | None:
        """Of a whole model; None: it is not here, or damaged."""
        raw = self.manifest_bytes(root)
        return None if raw is None else parse_manifest(raw)

    def manifest_bytes(self, root: str) -> bytes | None:
        """The canonical manifest of a whole model; None: it is not here."""
        return None if self.folder(root) is None else self.kept_manifest(root)

    def kept_manifest(self, root: str) -> bytes | None:
        """As it was written when the model was made whole, whatever became of its files; None: it is not here."""
        return _read(self._folder / "manifests" / f"{root}.json")

    def roots(self) -> list[ModelRoot]:
        """Of the whole models."""
        return sorted(ModelRoot(found.name) for found in (self._folder / "models").iterdir() if found.is_dir())

    # room

    def free_bytes(self) -> int:
        """What uploads may still have, beside those that were promised some."""
        return self.room.free_bytes()

    def reserve(self, root: str, size: int) -> None:
        """Promise a model room before its upload begins; again after every start, for each that is uploading.

        Raises:
            NotAccepted: there is not so much.
        """
        self.room.reserve(root, size)

    # uploads

    def manifest_part(self, root: str, size: int) -> Part:
        """What the manifest of a model comes into, the first of its files. Raises OSError."""
        make_private_dir(self.incoming(root))
        return Part(self.incoming(root) / "manifest.part", root, b"", size)

    def finish_manifest(self, root: str, part: Part) -> bool:
        """Keep the manifest; False: it was another's. Raises OSError."""
        return part.finish(self.incoming(root) / MANIFEST)

    def expected(self, root: str) -> Manifest | None:
        """The manifest of a model that is on its way; None: it did not come yet."""
        raw = _read(self.incoming(root) / MANIFEST)
        try:
            return None if raw is None else verify_manifest(raw, ModelRoot(root))
        except ModelError:
            return None  # damaged in a power cut: it comes again

    def lacking(self, root: str, manifest: Manifest) -> list[Lack]:
        """What is not here, each digest once. What another model has is here."""
        with self._sweeping:
            found: dict[str, Lack] = {}
            for item in self._items(root, manifest):
                if item.sha256 not in found and not self._blobs.has(item.sha256):
                    path = self.incoming(root) / f"{item.sha256}.part"
                    have = path.stat().st_size - len(item.header) if path.is_file() else 0
                    found[item.sha256] = Lack(item, max(0, have))
            return list(found.values())

    def copies(self, root: str, manifest: Manifest, lacking: Iterable[Lack]) -> int:
        """Bytes that the model takes on disk beside those that are lacking: files, and copies under other headers."""
        coming = {lack.item.sha256: lack.item.header for lack in lacking}
        cost = 0
        for item in self._items(root, manifest):
            if coming.get(item.sha256) != item.header and not self._blobs.path(item).is_file():
                cost += item.size or 0
            cost += FILE_COST_BYTES
        return cost

    def part(self, root: str, item: Item, size: int) -> Part:
        """What one digest comes into."""
        return Part(self.incoming(root) / f"{item.sha256}.part", item.sha256, item.header, size)

    def finish(self, part: Part, item: Item) -> bool:
        """Keep a part that is complete; False: it was not what its digest says. Raises OSError."""
        return part.finish(self._blobs.path(item))

    def assemble(self, root: str, manifest: Manifest) -> bool:
        """Make a model whole, once nothing is lacking; False: something is.

        Raises:
            ModelError: the manifest contradicts the files.
            OSError: the disk does not take it.
        """
        staging, place = self.incoming(root), self._model(root)
        if not place.is_dir():
            model = CachedModel(staging, ModelRoot(root), manifest)
            shutil.rmtree(model.folder, ignore_errors=True)
            try:
                model.prepare()
            except ModelError as error:
                if isinstance(error.__cause__, OSError):  # the disk's fault, and not the model's
                    raise error.__cause__ from None
                raise
            try:
                for item in model.items():
                    if not self._blobs.put(item):
                        return False
                    os.link(self._blobs.path(item), item.path)
            except ValueError as error:
                raise ModelError(f"The manifest contradicts itself: {error}.") from error
            raw = _read(staging / MANIFEST)
            if raw is None:
                return False
            write_atomically(self._folder / "manifests" / f"{root}.json", raw)
            sync(model.folder)
            model.folder.rename(place)
            sync(place.parent)
        shutil.rmtree(staging, ignore_errors=True)
        self.room.release(root)
        return True

    # what a disk lost or spoilt (mending.py)

    def replace(self, root: str, manifest: Manifest, items: Iterable[Item]) -> bool:
        """Make a model whole of files that are known to be sound, whatever was in its place. Raises OSError."""
        with self._sweeping:
            for item in items:
                self._blobs.replace(item)
            write_atomically(self.incoming(root) / MANIFEST, manifest_bytes(manifest))
            shutil.rmtree(self._model(root), ignore_errors=True)
        return self.assemble(root, manifest)

    def take_apart(self, root: str, spoilt: Iterable[Item]) -> None:
        """A model is whole no more: what is spoilt goes, the rest stays for when it comes again. Raises OSError."""
        with self._sweeping:
            for item in spoilt:
                self._blobs.path(item).unlink(missing_ok=True)
            shutil.rmtree(self._model(root), ignore_errors=True)

    # taking down

    def remove(self, root: str) -> int:
        """Take a model down, whole or not; returns the bytes that became free. Files that others have, too, stay."""
        with self._sweeping:
            manifest = self.expected(root) or self.manifest(root)
            freed = self._forget(root)
            if manifest is None:
                return freed
            return freed + self._blobs.collect(digests_of(manifest), self._wanted())

    def sweep(self, keep: Iterable[str]) -> int:
        """Remove all models but those of the roots in ``keep``, and what no model has; returns the bytes freed.

        Uploads that room is reserved for stay.
        """
        with self._sweeping:
            kept = {*keep, *self.room.roots}
            known = {*self.roots(), *(found.name for found in (self._folder / "incoming").iterdir())}
            known |= {found.stem for found in (self._folder / "manifests").glob("*.json")}
            freed = sum(self._forget(root) for root in sorted(known - kept))
            return freed + self._blobs.collect(self._blobs.digests(), self._wanted())

    def incoming(self, root: str) -> Path:
        """Where a model is while it is on its way."""
        return self._folder / "incoming" / root

    def _model(self, root: str) -> Path:
        return model_folder(self._folder, ModelRoot(root))

    def _items(self, root: str, manifest: Manifest) -> list[Item]:
        return CachedModel(self.incoming(root), ModelRoot(root), manifest).items()

    def _wanted(self) -> set[str]:
        """Digests that uploads under way count on."""
        roots = [found.name for found in (self._folder / "incoming").iterdir()]
        manifests = [manifest for manifest in map(self.expected, roots) if manifest is not None]
        return {digest for manifest in manifests for digest in digests_of(manifest)}

    def _forget(self, root: str) -> int:
        """Remove the folders of a model; its blobs stay."""
        self.room.release(root)
        freed = sum(part.stat().st_size for part in self.incoming(root).glob("*.part"))
        (self._folder / "manifests" / f"{root}.json").unlink(missing_ok=True)
        for folder in (self._model(root), self.incoming(root)):
            shutil.rmtree(folder, ignore_errors=True)
        return freed


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
