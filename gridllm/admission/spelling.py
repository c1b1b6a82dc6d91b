"""Figures as people read them: in tables, and in the sentences of a verdict. Pure."""

from __future__ import annotations

from typing import Final

LABELS: Final = {
    "decode_blocks_per_s": "decode, one session",
    "batch_blocks_per_s": "decode, eight sessions",
    "prefill_blocks_per_s": "prompt",
    "memory_bytes": "memory held",
    "disk_bytes": "disk free",
    "upload_mbit_s": "upload",
    "download_mbit_s": "download",
    "reachable": "reachable",
    "version": "gridllm",
    "rtt_ms": "round trip",
}
"""Field of ``Figures`` and ``Minimums`` → its name for people."""


def label(name: str) -> str:
    """A figure's name for people."""
    return LABELS.get(name, name)


def spell(name: str, value: float | str | bool) -> str:
    """One figure with its unit: ``1.2 GiB``, ``480 blocks/s``, ``yes``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value or "unknown"
    if name.endswith("_bytes"):
        return spell_bytes(int(value))
    if name.endswith("_blocks_per_s"):
        return f"{_number(value)} blocks/s"
    if name.endswith("_mbit_s"):
        return f"{_number(value)} Mbit/s"
    if name.endswith("_ms"):
        return f"{_number(value)} ms"
    return str(value)


def spell_bytes(size_bytes: int) -> str:
    """Bytes as people read them: 3.2 GiB."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} bytes"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
