"""How much memory this node may use: what is free on the device, within the limits the system sets for us."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

UNLIMITED_BYTES: Final = 2**60  # cgroup v1 says "no limit" with a number near 2**63


def spell_size(size_bytes: int) -> str:
    """Bytes as people read them: 3.2 GiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def free_bytes(device: str) -> int:
    """Memory that new weights and caches may take on ``device``: of the GPU, or of the machine and our cgroup."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return min(int(psutil.virtual_memory().available), cgroup_free_bytes())


def cgroup_free_bytes(mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """What the limits of our cgroup and those around it leave; ``UNLIMITED_BYTES`` where there are none.

    Containers limit memory this way, and there ``psutil`` still sees the whole machine's.
    """
    try:
        lines = own.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return UNLIMITED_BYTES
    free = UNLIMITED_BYTES
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "memory"):
            base = mount / controllers
            folder = base / path.lstrip("/")
            # Inside a container the path may be the host's; its root is then the limit that counts.
            for level in {folder, base, *(parent for parent in folder.parents if parent.is_relative_to(base))}:
                free = min(free, _level_free_bytes(level))
    return free


def _level_free_bytes(level: Path) -> int:
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit_bytes = _number(level / limit)
        used_bytes = _number(level / usage)
        if limit_bytes is not None and used_bytes is not None and limit_bytes < UNLIMITED_BYTES:
            return max(0, limit_bytes - used_bytes + _reclaimable_bytes(level))
    return UNLIMITED_BYTES


def _reclaimable_bytes(level: Path) -> int:
    """File cache that counts as used, but makes way."""
    try:
        lines = (level / "memory.stat").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    stats = dict(line.split(" ", 1) for line in lines if " " in line)
    value = stats.get("total_inactive_file", stats.get("inactive_file", "0"))
    return int(value) if value.isdigit() else 0


def _number(file: Path) -> int | None:
    try:
        text = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None
