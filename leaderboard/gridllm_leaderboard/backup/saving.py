"""Writes a backup while the leaderboard runs: rows as of one moment, then the weights that they speak of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from gridllm.disk import writing_atomically
from gridllm.errors import LeaderboardError
from gridllm.ids import ModelRoot
from gridllm.models.cached import CachedModel, Item
from gridllm.models.manifest import parse_manifest
from gridllm_leaderboard.backup.archive import FORMAT, HEADER, Header, Writer
from gridllm_leaderboard.store.copying import Page
from gridllm_leaderboard.store.integrity import Integrity
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.vault.vault import Vault

Progress = Callable[[int, int], None]
"""Bytes done, bytes in all (about)."""


@dataclass(slots=True)
class Saved:
    """What a backup holds."""

    submissions: int = 0
    rounds: int = 0
    models: int = 0  # whose weights are in it
    size: int = 0  # bytes of the file
    lacking: list[str] = field(default_factory=list)  # submissions whose weights are not in it


def save(
    path: Path,
    store: LeaderboardStore,
    vault: Vault | None,
    grid: str,
    account: str,
    tell: Progress,
) -> Saved:
    """Write the backup; ``path`` has the whole of it, or what was there before.

    Args:
        vault: None: without weights.
        account: the leaderboard's (hex key).

    Raises:
        LeaderboardError: a row or tensor is not what it should be, or the file cannot be written.
    """
    try:
        with writing_atomically(path, mode=0o600) as file, store.copied() as (size, pages):
            done = _Backup(Writer(file), Integrity(grid, account), tell, size)
            header = Header(FORMAT, grid, account, int(time.time()), vault is not None)
            done.writer.add(HEADER, msgspec.json.encode(header))
            for number, page in enumerate(pages):
                done.page(number, page)
            if vault is not None:
                done.weights(vault)
            saved = done.end(file)
    except OSError as error:
        raise LeaderboardError(f"The backup {path} cannot be written ({error.strerror or error}).") from error
    return saved


class _Backup:
    """One backup on its way."""

    def __init__(self, writer: Writer, integrity: Integrity, tell: Progress, size: int) -> None:
        self.writer = writer
        self._integrity = integrity
        self._tell = tell
        self._total = size
        self._done = 0
        self._written: set[str] = set()  # digests
        self._whole: set[str] = set()  # roots
        self._gone: list[str] = []

    def page(self, number: int, page: Page) -> None:
        """Rows that are sound."""
        raw = msgspec.msgpack.encode(self._integrity.check(page).rows)
        self.writer.add(f"rows/{page.table}/{number:06}.msgpack", raw)
        self._advance(len(raw))

    def weights(self, vault: Vault) -> None:
        """Of every model that the rows want and that is whole."""
        coming = []
        for root in self._integrity.roots:
            raw, folder = vault.manifest_bytes(root), vault.folder(root)
            if raw is not None and folder is not None:
                items = CachedModel(folder.parent.parent, ModelRoot(root), parse_manifest(raw)).items()
                coming.append((root, raw, items))
                self._total += sum(item.size or 0 for item in items)
        for root, raw, items in coming:
            self.writer.add(f"weights/{root}/manifest.json", raw)
            try:
                for item in items:
                    self._item(root, item)
                self._whole.add(root)
            except FileNotFoundError:
                if vault.folder(root) is not None:
                    raise
                self._gone.append(root)  # withdrawn meanwhile

    def end(self, file: IO[bytes]) -> Saved:
        """The last member."""
        self.writer.end(self._gone)
        lacking = [one for root, one in self._integrity.roots.items() if root not in self._whole]
        counts = self._integrity.submissions, self._integrity.rounds, len(self._whole)
        return Saved(*counts, file.tell(), sorted(lacking))

    def _item(self, root: str, item: Item) -> None:
        with item.path.open("rb") as source:
            size = item.path.stat().st_size - len(item.header)
            if item.sha256 not in self._written:
                source.seek(len(item.header))
                if self.writer.copy(f"weights/{root}/{item.sha256}", source, size) != item.sha256:
                    raise LeaderboardError(f"{item.path} is damaged; its model has to be uploaded again.")
                self._written.add(item.sha256)
        self._advance(size)

    def _advance(self, size: int) -> None:
        self._done += size
        self._tell(min(self._done, self._total), self._total)
