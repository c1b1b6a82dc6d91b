"""This machine as a candidate: what it may use, said before it is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

from gridllm.admission.candidacy import Candidacy
from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Role
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import block_size
from gridllm.node.memory import free_bytes
from gridllm.planning.placement import PASS_BYTES, SAFETY_SHARE, bytes_needed


def candidacy_here(
    entry: ModelEntry,
    manifest: Manifest,
    *,
    dtype: str,
    device: str,
    roles: tuple[Role, ...],
    memory_bytes: int | None,
    folder: Path,
) -> Candidacy:
    """What this machine would serve ``entry`` with. Takes milliseconds, reads files of the system.

    Args:
        memory_bytes: what it may use; None: what is free, less the margin that serving leaves, too.
        folder: where a model's files would go; its disk counts.
    """
    import torch

    size = block_size(manifest, dtype)
    free = free_bytes(device)
    usable = max(0, int(free * (1 - SAFETY_SHARE)) - PASS_BYTES)
    if memory_bytes is not None:
        usable = min(usable, memory_bytes)
    whole = bytes_needed(entry.blocks, size.weight_bytes, size.cache_bytes_per_token)
    return Candidacy(
        entry=entry,
        manifest=manifest,
        dtype=dtype,
        roles=roles,
        device=device,
        threads=torch.get_num_threads(),
        memory_bytes=min(usable, whole),
        disk_bytes=_free_disk(folder),
    )


def _free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` is or will be."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return 0
