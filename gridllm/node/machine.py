"""This machine as a candidate: what it may use, said before it is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

from gridllm.admission.candidacy import Candidacy
from gridllm.admission.sample import sample_bytes
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
    held_bytes: int = 0,
) -> Candidacy:
    """What this machine would serve ``entry`` with. Takes milliseconds, reads files of the system.

    Args:
        memory_bytes: what it may use; None: what is free, less what serving leaves, too: a margin, and room to be
            measured again beside the span.
        folder: where a model's files would go; its disk counts.
        held_bytes: what the certificate that is to be renewed says; the node's span is in it now, and is not free.
    """
    import torch

    size = block_size(manifest, dtype)
    free = free_bytes(device)
    beside = sample_bytes(entry.blocks, size.weight_bytes) if "serve" in roles else 0
    usable = max(0, int(free * (1 - SAFETY_SHARE)) - PASS_BYTES - beside)
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
        memory_bytes=max(held_bytes, min(usable, whole)),
        disk_bytes=_free_disk(folder),
    )


def _free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` is or will be."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return 0
