"""Models of the vault that a disk lost or spoilt: what is wrong, what of them is sound still, and whole again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

from gridllm.errors import ModelError
from gridllm.ids import ModelRoot
from gridllm.models.cached import CachedModel, Item
from gridllm.models.manifest import Manifest, verify_manifest
from gridllm.models.seeding import verify_files
from gridllm_leaderboard.vault.vault import Vault

READ_BYTES: Final = 4 * 1024 * 1024  # at once


def fault_of(vault: Vault, root: str, *, thorough: bool) -> str:
    """What is wrong with a model that should be whole here, in words; empty: nothing.

    Args:
        thorough: read every byte; else sizes alone are looked at.
    """
    folder, manifest = vault.folder(root), known_manifest(vault, root)
    if folder is None or manifest is None:
        return "its files are gone"
    try:
        if thorough:
            verify_files(folder, manifest)
        for item in _items(folder, root, manifest):
            if not item.path.is_file() or (item.size is not None and _size(item) != item.size):
                return f"{item.path.name} is missing or cut short"
    except ModelError as error:
        return str(error).rstrip(".")
    except OSError as error:
        return f"its files cannot be read ({error.strerror or error})"
    return ""


def known_manifest(vault: Vault, root: str) -> Manifest | None:
    """The manifest of a model that is here, or was; None: it is lost, or spoilt."""
    with contextlib.suppress(ModelError, OSError):
        raw = vault.kept_manifest(root)
        if raw is not None:
            return verify_manifest(raw, ModelRoot(root))
    return vault.expected(root)


def salvage(vault: Vault, root: str, manifest: Manifest) -> Path:
    """A cache (models/cached.py) with all of the model that is sound still, for the rest to be fetched into.

    Raises:
        ModelError, OSError: the disk does not take it.
    """
    cache = vault.incoming(root) / "found"
    found = CachedModel(cache, ModelRoot(root), manifest)
    found.prepare()
    folder = vault.folder(root)
    if folder is not None:
        for item, place in zip(_items(folder, root, manifest), found.items(), strict=True):
            if not place.path.exists() and _is_sound(item):
                os.link(item.path, place.path)
    return cache


def renew(vault: Vault, root: str, manifest: Manifest, cache: Path) -> bool:
    """Put a model that ``cache`` has whole in the place of what is here; False: something lacks.

    Raises:
        ModelError, OSError: the disk does not take it.
    """
    found = CachedModel(cache, ModelRoot(root), manifest)
    for item in found.items():
        if not _is_sound(item):
            item.path.unlink(missing_ok=True)
            return False
    return vault.replace(root, manifest, found.items())


def discard(vault: Vault, root: str, manifest: Manifest) -> None:
    """Take out what is spoilt of a model, so that it may come again. Raises OSError."""
    folder = vault.folder(root)
    if folder is not None:
        spoilt = [item for item in _items(folder, root, manifest) if item.path.exists() and not _is_sound(item)]
        vault.take_apart(root, spoilt)


def _items(folder: Path, root: str, manifest: Manifest) -> list[Item]:
    return CachedModel(folder.parent.parent, ModelRoot(root), manifest).items()


def _size(item: Item) -> int:
    return item.path.stat().st_size - len(item.header)


def _is_sound(item: Item) -> bool:
    """Whether the file is what its digest says, to the last byte."""
    digest = hashlib.sha256()
    try:
        with item.path.open("rb") as file:
            if file.read(len(item.header)) != item.header:
                return False
            while piece := file.read(READ_BYTES):
                digest.update(piece)
    except OSError:
        return False
    return digest.hexdigest() == item.sha256
