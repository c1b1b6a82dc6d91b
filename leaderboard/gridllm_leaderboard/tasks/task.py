"""One task: what a model is asked, where its items come from, and what the rules commit to."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import cached_property

from gridllm.charter.contest import TaskRule
from gridllm_leaderboard.results import Line
from gridllm_leaderboard.tasks.taskfile import Kind, TaskFile


def seed_for(seed: bytes, name: str) -> bytes:
    """The seed of one task's items in a round; 32 bytes. ``draw`` applies it itself."""
    return hashlib.sha256(b"gridllm leaderboard items\0" + name.encode() + b"\0" + seed).digest()


class Task(ABC):
    """A task whose items can be drawn."""

    generated: bool
    """Whether anyone can draw its items again from the seed; else it takes the sealed pool."""

    def __init__(self, file: TaskFile, raw: bytes) -> None:
        self.file = file
        self._raw = raw

    @property
    def name(self) -> str:
        """As in the rules."""
        return self.file.task

    @property
    def kind(self) -> Kind:
        """``text`` or ``choice``."""
        return self.file.kind

    @cached_property
    def commitment(self) -> str:
        """What the rules hold the task to: its file, its public items, and what the sealed ones come from; hex."""
        parts = [self.files()["task.yaml"], self.files()["practice.jsonl"], self._source()]
        digest = hashlib.sha256(b"gridllm leaderboard task\0")
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def rule(self, items: int, weight: int = 1) -> TaskRule:
        """The rules' line for it."""
        return TaskRule(name=self.name, kind=self.kind, commitment=self.commitment, items=items, weight=weight)

    @abstractmethod
    def draw(self, seed: bytes, count: int, spent: Collection[str] = ()) -> list[Line]:
        """Items of a round: always the same of the same seed and ``spent``.

        Args:
            seed: of the round (``beacon.seed_of``); each task makes its own of it.
            count: of items.
            spent: digests (results.digest_of) that earlier rounds used.

        Raises:
            LeaderboardError: there are not so many left.
        """

    @abstractmethod
    def practice(self) -> list[Line]:
        """The public items, which are never drawn."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """``task.yaml`` and ``practice.jsonl``: what the public may have."""

    @abstractmethod
    def _source(self) -> bytes:
        """What tells the source of the items from every other."""
