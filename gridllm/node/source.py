"""Where a node gets its model from: the manifest from any peer of the grid, the weights as the charter says."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gridllm.charter.address import split_address
from gridllm.charter.document import ModelEntry
from gridllm.charter.fetch import fetch_manifest
from gridllm.charter.pin import Pins
from gridllm.errors import GridError, ModelError
from gridllm.ids import PeerId
from gridllm.models.fetching import FindSeeds, Progress, obtain_weights
from gridllm.models.files import DEMO, find_model
from gridllm.models.manifest import Manifest, build_manifest, manifest_bytes, verify_manifest
from gridllm.planning.placement import BlockRange
from gridllm.settings import load_settings
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord

log = logging.getLogger(__name__)

LOCAL = "local"
ASK_TIMEOUT_S = 5.0


async def obtain_manifest(
    swarm: Swarm,
    entry: ModelEntry,
    pins: Pins,
    *,
    first_peers: Iterable[str],
    records: Iterable[NodeRecord],
    folder: Path | None,
) -> tuple[Manifest, bytes]:
    """The model's manifest and its bytes: kept from before, from a peer, or made from ``folder``; kept for next time.

    Raises:
        ModelError: nobody has it, and ``folder`` is none or holds another model.
    """
    raw = pins.manifest(entry.model_root)
    if raw is None:
        raw = await _ask_around(swarm, entry, first_peers, records)
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

    async def folder(self, blocks: BlockRange | None) -> Path:
        """A folder with the weights of ``blocks`` (None: of everything, tokenizer included), downloaded as needed.

        Raises:
            ModelError: the Hub cannot be reached or lacks the model; or, for one that is not there, no seed is up.
        """
        entry, ends = self.entry, None if blocks is None else False
        if entry.source != LOCAL:
            return await asyncio.to_thread(find_model, entry.source, entry.revision, blocks=blocks, ends=ends)
        return await obtain_weights(
            self.swarm,
            entry.model_root,
            self.manifest,
            self.cache_dir or load_settings().cache_dir,
            self.find_seeds,
            name=entry.name,
            blocks=blocks,
            ends=ends,
            progress=self.progress,
        )


async def _ask_around(
    swarm: Swarm, entry: ModelEntry, first_peers: Iterable[str], records: Iterable[NodeRecord]
) -> bytes | None:
    askable: dict[PeerId, tuple[str, ...]] = {}
    for address in first_peers:
        peer, _ = split_address(address)
        askable[peer] = (*askable.get(peer, ()), address)
    askable |= {record.peer: tuple(record.addresses) for record in records}
    askable.pop(swarm.peer, None)
    for peer, addresses in askable.items():
        try:
            await swarm.connect(peer, addresses, timeout_s=ASK_TIMEOUT_S)
            return await fetch_manifest(swarm, peer, entry.model_root, timeout_s=ASK_TIMEOUT_S)
        except GridError as error:
            log.info("Peer %s did not send the manifest: %s", peer, error)
    return None
