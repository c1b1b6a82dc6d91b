"""Where a node gets its model from: the manifest from any peer of the grid, the weights as the charter says."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gridllm.charter.address import split_address
from gridllm.charter.document import ModelEntry
from gridllm.charter.fetch import ask_for_manifest
from gridllm.charter.pin import Pins
from gridllm.errors import ModelError
from gridllm.ids import PeerId
from gridllm.models.borrowed import Borrowing, name_model
from gridllm.models.fetching import FindSeeds, Progress, obtain_weights
from gridllm.models.files import DEMO, find_model
from gridllm.models.manifest import Manifest, build_manifest, manifest_bytes, verify_manifest
from gridllm.planning.placement import BlockRange
from gridllm.settings import load_settings
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord

LOCAL = "local"


async def obtain_manifest(
    swarm: Swarm,
    entry: ModelEntry,
    pins: Pins,
    *,
    first_peers: Iterable[str],
    records: Iterable[NodeRecord],
    folder: Path | None,
    beside: Mapping[PeerId, tuple[str, ...]] | None = None,
) -> tuple[Manifest, bytes]:
    """The model's manifest and its bytes: kept from before, from a peer, or made from ``folder``; kept for next time.

    Args:
        beside: who else may have it, and is asked first (``admission.cards.leaderboard_sources``).

    Raises:
        ModelError: nobody has it, and ``folder`` is none or holds another model.
    """
    raw = pins.manifest(entry.model_root)
    if raw is None:
        raw = await ask_for_manifest(swarm, _askable(first_peers, records, beside or {}), entry.model_root)
    if raw is None and folder is not None:
        raw = manifest_bytes(await asyncio.to_thread(build_manifest, folder))
        here = hashlib.sha256(raw).hexdigest()
        if here != entry.root:
            raise ModelError(
                f"The model in {folder} is not the grid's {entry.name!r}: its root is {here[:16]}…, the charter names "
                f"{entry.root[:16]}…; get the same files as the maintainer."
            )
    if raw is None:
        raise ModelError(
            f"No peer could send the manifest of {entry.name!r}; try again when the first peer or another node is up."
        )
    manifest = verify_manifest(raw, entry.model_root)
    pins.save_manifest(entry.model_root, raw)
    return manifest, raw


def local_folder(entry: ModelEntry, path: Path | None) -> Path | None:
    """The folder given, or that of the packaged demo model; None when the model is to come from the Hub or from seeds.

    Raises:
        ModelError: the folder is none of a model.
    """
    if path is not None:
        return find_model(path)
    if entry.source == DEMO:
        return find_model(DEMO)
    return None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files of one model come from when they are not in a folder of the volunteer's."""

    swarm: Swarm
    entry: ModelEntry
    manifest: Manifest
    find_seeds: FindSeeds
    cache_dir: Path | None  # None: the settings' folder
    progress: Progress
    borrowing: Borrowing | None = None  # for a model that follows from the leaderboard; None: the volunteer named it

    async def folder(self, blocks: BlockRange | None) -> Path:
        """A folder with the weights of ``blocks`` (None: of everything, tokenizer included), downloaded as needed.

        Raises:
            ModelError: the Hub cannot be reached or lacks the model; or, for one that is not there, no seed is up.
        """
        entry, ends = self.entry, None if blocks is None else False
        if entry.source != LOCAL:
            return await asyncio.to_thread(find_model, entry.source, entry.revision, blocks=blocks, ends=ends)
        cache_dir = self.cache_dir or load_settings().cache_dir
        if self.borrowing is None:
            await asyncio.to_thread(name_model, cache_dir, entry.model_root)
        else:
            await self.borrowing.take(entry.model_root)
        return await obtain_weights(
            self.swarm,
            entry.model_root,
            self.manifest,
            cache_dir,
            self.find_seeds,
            name=entry.name,
            blocks=blocks,
            ends=ends,
            progress=self.progress,
            borrowing=self.borrowing,
        )


def _askable(
    first_peers: Iterable[str], records: Iterable[NodeRecord], beside: Mapping[PeerId, tuple[str, ...]]
) -> dict[PeerId, tuple[str, ...]]:
    askable: dict[PeerId, tuple[str, ...]] = dict(beside)
    for address in first_peers:
        peer, _ = split_address(address)
        askable[peer] = (*askable.get(peer, ()), address)
    return askable | {record.peer: tuple(record.addresses) for record in records}
