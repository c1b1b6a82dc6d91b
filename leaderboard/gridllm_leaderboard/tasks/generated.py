"""Tasks whose items are generated: endless, and drawn again from the seed by anyone who has this program."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection
from functools import cached_property
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import Line, digest_of, items_root, write_items
from gridllm_leaderboard.tasks.items import checked
from gridllm_leaderboard.tasks.task import Task, seed_for
from gridllm_leaderboard.tasks.taskfile import TaskFile

PRACTICE_ITEMS: Final = 100
PROBES: Final = 256  # items that a generator is known by
TRIES: Final = 20  # for one item, before it is said that there are no more

Maker = Callable[[random.Random], Line]


class GeneratedTask(Task):
    """Items by a function of seeded random numbers."""

    generated = True

    def __init__(self, file: TaskFile, raw: bytes, maker: Maker) -> None:
        super().__init__(file, raw)
        self._maker = maker

    def draw(self, seed: bytes, count: int, spent: Collection[str] = ()) -> list[Line]:
        """As in ``Task``; a seed's items are new ones, save by chance, and those are left out."""
        return self._make(seed_for(seed, self.name), count, self._practised.union(spent))

    def practice(self) -> list[Line]:
        """Items of a seed that is told, and that no round's seed can be made into."""
        return list(self._practice)

    def files(self) -> dict[str, bytes]:
        """The file of the task, and the public items."""
        return {"task.yaml": self._raw, "practice.jsonl": write_items(self._practice)}

    def _source(self) -> bytes:
        """The generator by what it does, not by how it is written: another version of it makes other items here."""
        return items_root(self._make(_fixed("probe", self.name), PROBES, set())).encode()

    @cached_property
    def _practice(self) -> list[Line]:
        return self._make(_fixed("practice", self.name), PRACTICE_ITEMS, set())

    @cached_property
    def _practised(self) -> frozenset[str]:
        return frozenset(digest_of(item) for item in self._practice)

    def _make(self, seed: bytes, count: int, without: Collection[str]) -> list[Line]:
        items: dict[str, Line] = {}
        for index in range(count * TRIES):
            if len(items) == count:
                break
            rng = random.Random(f"{seed.hex()}/{index}")  # noqa: S311  # the seed is public: fair, not secret
            item = checked(self._maker(rng), self.kind)
            digest = digest_of(item)
            if digest not in without:
                items.setdefault(digest, item)
        if len(items) < count:
            raise LeaderboardError(f"The task {self.name} has no {count} items that differ; ask for fewer.")
        return list(items.values())


def _fixed(use: str, name: str) -> bytes:
    return hashlib.sha256(f"gridllm leaderboard {use}\0{name}".encode()).digest()
