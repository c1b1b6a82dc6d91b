"""What a machine offers when it is measured, and what a node leaves free to be measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridllm.admission.sample import sample_blocks, sample_bytes
from gridllm.models.sizes import block_size
from gridllm.node import machine
from gridllm.node.machine import candidacy_here
from gridllm.node.sizing import fitting_blocks, memory_to_take
from gridllm.planning.placement import bytes_needed
from tests.unit.examinations import MIB, candidacy, tiny_manifest

GIB = 2**30


def offer(folder: Path, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "dtype": "float32",
        "device": "cpu",
        "roles": ("serve",),
        "memory_bytes": None,
        "folder": folder,
    }
    return candidacy_here(candidacy().entry, tiny_manifest(), **(fields | changes))


def test_a_full_node_offers_what_its_certificate_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda device: MIB)
    assert offer(tmp_path).memory_bytes == 0
    assert offer(tmp_path, held_bytes=3 * GIB).memory_bytes == 3 * GIB


def test_a_node_leaves_room_for_the_blocks_that_it_is_measured_with() -> None:
    size = block_size(tiny_manifest(), "float32")
    beside = sample_bytes(5, size.weight_bytes)
    assert beside == 5 * size.weight_bytes
    free = bytes_needed(3, size.weight_bytes, size.cache_bytes_per_token) + beside
    assert fitting_blocks(size, 5, memory_to_take(free, beside, size, None), None) == 3
    for_one = bytes_needed(1, size.weight_bytes, size.cache_bytes_per_token)
    assert fitting_blocks(size, 5, memory_to_take(for_one, GIB, size, None), None) == 1
    assert memory_to_take(MIB, GIB, size, None) == MIB


def test_the_sample_outgrows_a_cache_and_no_more() -> None:
    assert [sample_blocks(80, bytes_) for bytes_ in (MIB, 10 * MIB, GIB)] == [16, 7, 1]
    assert sample_blocks(4, MIB) == 4
