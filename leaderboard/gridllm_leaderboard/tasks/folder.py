"""Tasks from a folder: ``task.yaml``, ``practice.jsonl`` for everyone, and ``pool.jsonl``, which stays sealed.

The file's ``metadata`` holds the pool's Merkle root, and the rules hold the file: a pool cannot be changed once the
rules are signed, though nobody sees it. When it is used up its keeper can publish it; then all can check every draw.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import MAX_LINES_BYTES, Line, digest_of, items_root, write_items
from gridllm_leaderboard.tasks.items import checked_all, parse
from gridllm_leaderboard.tasks.task import Task, seed_for
from gridllm_leaderboard.tasks.taskfile import TaskFile, read_task_file

TASK_FILE: Final = "task.yaml"
PRACTICE_FILE: Final = "practice.jsonl"
POOL_FILE: Final = "pool.jsonl"


class FolderTask(Task):
    """Items that people wrote; without the pool it can be practised, and not drawn from."""

    generated = False

    def __init__(self, file: TaskFile, raw: bytes, practice: bytes, pool: list[Line] | None) -> None:
        super().__init__(file, raw)
        self._practice_raw = practice
        self._pool = pool

    @cached_property
    def _practice(self) -> list[Line]:
        return checked_all(parse(self._practice_raw, PRACTICE_FILE), self.kind, PRACTICE_FILE)

    def draw(self, seed: bytes, count: int, spent: Collection[str] = ()) -> list[Line]:
        """As in ``Task``: the pool in the seed's order, less what is spent. Raises LeaderboardError: no pool here."""
        if self._pool is None:
            raise LeaderboardError(f"The sealed pool of the task {self.name} is not here; its keeper alone can draw.")
        used = frozenset(spent)
        left = [item for item in self._pool if digest_of(item) not in used]
        if len(left) < count:
            raise LeaderboardError(
                f"The pool of the task {self.name} has {len(left)} items left, and a round takes {count}. Issue rules "
                "with a new pool, or with fewer items."
            )
        rng = random.Random(seed_for(seed, self.name).hex())  # noqa: S311  # the seed is public: fair, not secret
        return rng.sample(left, count)

    def practice(self) -> list[Line]:
        """The public items."""
        return list(self._practice)

    def pool(self) -> list[Line] | None:
        """The sealed items, for whoever has them."""
        return self._pool

    def files(self) -> dict[str, bytes]:
        """The file of the task, and the public items."""
        return {TASK_FILE: self._raw, PRACTICE_FILE: self._practice_raw}

    def _source(self) -> bytes:
        return f"{self.file.metadata.pool} {self.file.metadata.pool_items}".encode()


def from_files(raw: bytes, practice: bytes) -> FolderTask:
    """A task by its public files alone. Raises LeaderboardError: one of them cannot be used."""
    file = read_task_file(raw)
    if len(practice) > MAX_LINES_BYTES:
        raise LeaderboardError(f"{PRACTICE_FILE} has {len(practice)} bytes; at most {MAX_LINES_BYTES} are taken.")
    task = FolderTask(file, raw, practice, None)
    if not task.practice():
        raise LeaderboardError(f"{PRACTICE_FILE} of the task {file.task} holds no items; people practise on these.")
    return task


def from_folder(folder: Path) -> FolderTask:
    """A task by its folder, with its pool where that lies there.

    Raises:
        LeaderboardError: a file is missing or cannot be used, an item is public and sealed at once, or the pool is not
            the one that the file seals.
    """
    public = from_files(_read(folder / TASK_FILE), _read(folder / PRACTICE_FILE))
    if not (folder / POOL_FILE).exists():
        return public
    pool = checked_all(parse(_read(folder / POOL_FILE), POOL_FILE), public.kind, POOL_FILE)
    both = {digest_of(item) for item in pool} & {digest_of(item) for item in public.practice()}
    if both:
        raise LeaderboardError(f"{folder}: {len(both)} items stand in {PRACTICE_FILE} and in {POOL_FILE}.")
    if len(pool) < 2:
        raise LeaderboardError(f"{folder / POOL_FILE} holds {len(pool)} items; a task needs 2 at least.")
    sealed = public.file.metadata
    if (sealed.pool, sealed.pool_items) != (items_root(pool), len(pool)):
        raise LeaderboardError(
            f"{folder / TASK_FILE} does not seal {POOL_FILE} as it is. Put into its metadata: "
            f"`pool: {items_root(pool)}` and `pool_items: {len(pool)}`."
        )
    return FolderTask(public.file, public.files()[TASK_FILE], public.files()[PRACTICE_FILE], pool)


def write_folder(folder: Path, file: TaskFile, practice: list[Line], pool: list[Line]) -> None:
    """Write a task's folder, the pool sealed. Raises OSError."""
    import yaml

    metadata = {**file.metadata.model_dump(exclude_none=True), "pool": items_root(pool), "pool_items": len(pool)}
    keys = {**file.model_dump(mode="json", exclude_none=True), "metadata": metadata}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TASK_FILE).write_text(yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))
    (folder / PRACTICE_FILE).write_bytes(write_items(practice))
    pool_file = folder / POOL_FILE
    pool_file.touch(mode=0o600)
    pool_file.write_bytes(write_items(pool))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LeaderboardError(f"{path} cannot be read: {error.strerror}.") from error
