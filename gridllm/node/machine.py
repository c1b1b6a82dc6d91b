"""This machine as a candidate: what it may use, said before it is measured."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from gridllm.admission.examination.candidacy import Candidacy
from gridllm.admission.proof.sample import sample_bytes
from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Role
from gridllm.models.cached import model_folder
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
    cache_dir: Path,
    folder: Path | None = None,
    held_bytes: int = 0,
    asked_bytes: int = 0,
) -> Candidacy:
    """What this machine would serve ``entry`` with. Takes milliseconds, reads files of the system.

    Args:
        memory_bytes: what it may use; None: what is free, less what serving leaves, too: a margin, and room to be
            measured again beside the span.
        cache_dir: where the model's files would go; what is free there counts, and what is there of them already.
        folder: where the model's files are, if somewhere else.
        held_bytes: what the certificate that is to be renewed says; the node's span is in it now, and is not free.
        asked_bytes: the grid's minimum, which may be more than the whole model takes.
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
        memory_bytes=max(held_bytes, min(usable, max(whole, asked_bytes))),
        disk_bytes=_free_disk(cache_dir) + _held_files(folder or model_folder(cache_dir, entry.model_root), manifest),
    )


def _free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` is or will be."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return 0


def _held_files(folder: Path, manifest: Manifest) -> int:
    """Bytes of the model's weights that are here; no more than all of them, whatever else lies there."""
    held = 0
    with contextlib.suppress(OSError):  # not there, or one that is being fetched got its name
        for file in folder.glob("*.safetensors"):
            held += file.stat().st_size
    return min(held, sum(tensor.size for tensor in manifest.tensors.values()))
