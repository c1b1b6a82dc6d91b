"""Reads a backup back: every row and every tensor is verified before the database has any of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gridllm.errors import LeaderboardError
from gridllm.ids import ModelRoot
from gridllm.models.manifest import verify_manifest
from gridllm_leaderboard.backup.archive import Header, Member, Reader, reading_archive
from gridllm_leaderboard.backup.saving import Progress, Saved
from gridllm_leaderboard.store.copying import LATER, Page, Value
from gridllm_leaderboard.store.integrity import Integrity
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.vault.mending import discard, fault_of
from gridllm_leaderboard.vault.vault import Lack, Vault

NAME: Final = re.compile(r"(?:rows/(?P<table>[a-z]+)/\d+\.msgpack|weights/(?P<root>[0-9a-f]{64})/(?P<file>[0-9a-z.]+))")
_rows: Final = msgspec.msgpack.Decoder(list[dict[str, Any]])  # msgspec cannot tell text from bytes in a union


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup goes."""

    store: LeaderboardStore | None  # None: weights alone are put back, also in place of spoilt ones
    vault: Vault
    force: bool = False  # in place of what is there


def restore(path: Path, grid: str | None, target: Target | None, tell: Progress) -> Saved:
    """Verify a backup and, unless ``target`` is None, put it there: all of its rows, or none.

    Args:
        grid: that it must be of; None: whatever it is of.

    Raises:
        LeaderboardError: names what is not sound, or says that the target is not empty or cannot be written.
        NotAccepted: the vault's disk has no room.
    """
    total = path.stat().st_size if path.exists() else 0
    with reading_archive(path) as reader:
        header = reader.header()
        if grid is not None and header.grid != grid:
            raise LeaderboardError(f"{path} is the backup of another grid's leaderboard ({header.grid[:16]}…).")
        if target is not None and target.store is not None and not target.force and target.vault.roots():
            raise LeaderboardError("The leaderboard's folder of weights is not empty; use --force to add to it.")
        coming = _Coming(reader, header, target, lambda done: tell(done, total))
        try:
            if target is None or target.store is None:
                for _ in coming.pages():
                    pass
            else:
                target.store.restore(coming.pages(), force=target.force)
        except OSError as error:
            raise LeaderboardError(f"The backup {path} cannot be restored ({error.strerror or error}).") from error
    restored = coming.restored(total)
    if target is not None and target.store is not None:
        _ask_again(target.store, restored.lacking)
    return restored


class _Coming:
    """A backup as it is read."""

    def __init__(self, reader: Reader, header: Header, target: Target | None, tell: Callable[[int], None]) -> None:
        self._reader = reader
        self._integrity = Integrity(header.grid, header.account)
        self._vault = None if target is None else target.vault
        self._mends = target is not None and target.store is None
        self._tell = tell
        self._roots: list[str] = []
        self._lacking: dict[str, Lack] = {}  # of the last root, by digest

    def pages(self) -> Iterator[Page]:
        """The rows; it ends when all else was read as well, and only if all of it was sound."""
        for member in self._reader.members():
            found = NAME.fullmatch(member.name)
            if found is None:
                raise LeaderboardError(f"The backup has an unexpected member: {member.name[:100]!r}.")
            if found["table"]:
                yield self._integrity.check(Page(found["table"], _decoded(member, found["table"])))
            elif found["file"] == "manifest.json":
                self._manifest(found["root"], member.data())
            else:
                self._weights(found["root"], found["file"], member)
            self._tell(member.end)
        if self._reader.contents is None:
            raise LeaderboardError("The backup is truncated: its end is missing. Use another one.")
        for root in self._reader.contents.gone:
            if root not in self._roots:
                raise LeaderboardError(
                    f"The backup says that the model {root[:16]}… is gone, and has none of that root."
                )
            self._roots.remove(root)
            if self._vault is not None:
                self._vault.remove(root)
        self._assemble()

    def restored(self, size: int) -> Saved:
        """What came."""
        lacking = [one for root, one in self._integrity.roots.items() if root not in self._roots]
        return Saved(self._integrity.submissions, self._integrity.rounds, len(self._roots), size, sorted(lacking))

    def _manifest(self, root: str, raw: bytes) -> None:
        manifest = verify_manifest(raw, ModelRoot(root))
        self._roots.append(root)
        if self._mends and self._vault is not None and fault_of(self._vault, root, thorough=True):
            discard(self._vault, root, manifest)
        if self._vault is None or self._vault.folder(root) is not None:
            self._lacking = {}
            return
        part = self._vault.manifest_part(root, len(raw))
        part.drop()
        part.add(raw)
        self._vault.finish_manifest(root, part)
        self._lacking = {lack.item.sha256: lack for lack in self._vault.lacking(root, manifest)}
        self._vault.reserve(root, sum(lack.item.size or 0 for lack in self._lacking.values()))

    def _weights(self, root: str, digest: str, member: Member) -> None:
        lack = self._lacking.pop(digest, None)
        if self._vault is None or lack is None:
            for _ in member.pieces():
                pass
            if member.digest != digest:
                raise LeaderboardError(f"The backup is damaged: a tensor of model {root[:16]}… has another digest.")
            return
        part = self._vault.part(root, lack.item, member.size)
        part.drop()
        for piece in member.pieces():
            part.add(piece)
            self._vault.room.came(root, len(piece))  # the next model's room is counted beside what lies here already
        if not part.complete or not self._vault.finish(part, lack.item):
            raise LeaderboardError(f"The backup is damaged: {lack.item.name} of model {root[:16]}… is another tensor.")

    def _assemble(self) -> None:
        """Make the models whole."""
        for root in self._roots if self._vault is not None else ():
            manifest = self._vault.expected(root) if self._vault else None
            if self._vault and manifest is not None and not self._vault.assemble(root, manifest):
                raise LeaderboardError(f"The backup is damaged: model {root[:16]}… lacks weights.")


def _ask_again(store: LeaderboardStore, lacking: list[str]) -> None:
    """Whoever waits for a round without weights is asked for them again; what is graded keeps its place."""
    with store.writing() as batch:
        for id_, state in batch.states(lacking).items():
            if state in ("checking", "unpaid", "queued"):
                batch.bring_again(id_, "The leaderboard was restored without its files; upload them again.")


def _decoded(member: Member, table: str) -> list[dict[str, Value]]:
    """The rows, as this GridLLM has them."""
    try:
        later = LATER.get(table, frozenset())
        return [row | dict.fromkeys(later - row.keys()) for row in _rows.decode(member.data())]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LeaderboardError(f"The backup does not parse: {member.name}: {error}.") from error
