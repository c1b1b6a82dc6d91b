"""A submitted model's files: from the leaderboard's peer, by root, each tensor checked."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gridllm.charter.fetch import ask_for_manifest
from gridllm.charter.pin import Pins
from gridllm.disk import make_private_dir
from gridllm.errors import SwarmError
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.cached import model_folder
from gridllm.models.fetching import Addresses, Progress, obtain_weights
from gridllm.models.manifest import Manifest, verify_manifest
from gridllm.swarm.interface import Swarm


@dataclass(frozen=True, slots=True)
class Larder:
    """Where a grader gets models, and where it keeps them while it needs them."""

    swarm: Swarm
    sources: dict[PeerId, tuple[str, ...]]  # the leaderboard's peer
    pins: Pins
    cache_dir: Path
    notes: Path | None = None  # folder with a file for each model that is here for gradings alone

    async def manifest(self, root: ModelRoot, name: str) -> tuple[Manifest, bytes]:
        """What the model is.

        Raises:
            SwarmError: the leaderboard does not send it now.
            ModelError: what came is no manifest.
        """
        raw = await asyncio.to_thread(self.pins.manifest, root)
        if raw is None:
            raw = await ask_for_manifest(self.swarm, self.sources, root)
            if raw is None:
                raise SwarmError(f"The leaderboard does not send the manifest of {name!r} now; try again later.")
            await asyncio.to_thread(self.pins.save_manifest, root, raw)
        return await asyncio.to_thread(verify_manifest, raw, root), raw

    async def weights(self, root: ModelRoot, manifest: Manifest, name: str, progress: Progress) -> Path:
        """A folder with the whole model. Raises ModelError: nobody sends it, or the disk has no room for it."""

        async def find() -> Addresses:
            return self.sources

        return await obtain_weights(self.swarm, root, manifest, self.cache_dir, find, name=name, progress=progress)

    async def borrow(self, root: ModelRoot) -> None:
        """What comes of the model from here on goes with ``give_back``, however often the grading is begun anew; what
        was here before stays: a node may serve it. Raises OSError: it cannot be noted.
        """
        await asyncio.to_thread(self._note, root)

    async def give_back(self, wanted: Collection[str] = ()) -> None:
        """Take off the disk what was borrowed, but for the models of these roots."""
        await asyncio.to_thread(self._give_back, frozenset(wanted))

    def has(self, root: ModelRoot) -> bool:
        """Whether anything of it is here."""
        return model_folder(self.cache_dir, root).exists()

    async def clear(self, root: ModelRoot) -> None:
        """Take the weights off the disk."""
        await asyncio.to_thread(shutil.rmtree, model_folder(self.cache_dir, root), ignore_errors=True)

    def _note(self, root: ModelRoot) -> None:
        if self.notes is not None and not self.has(root):
            make_private_dir(self.notes)
            (self.notes / root).touch()

    def _give_back(self, wanted: Collection[str]) -> None:
        for note in [] if self.notes is None else self.notes.glob("*"):
            if note.name not in wanted:
                shutil.rmtree(model_folder(self.cache_dir, ModelRoot(note.name)), ignore_errors=True)
                note.unlink(missing_ok=True)
