"""What a machine offers when it is measured, and what a node leaves free to be measured again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.admission.proof.sample import sample_blocks, sample_bytes
from gridllm.models.cached import model_folder
from gridllm.models.sizes import block_size
from gridllm.node import machine
from gridllm.node.machine import candidacy_here
from gridllm.node.sizing import fitting_blocks, memory_to_take
from gridllm.planning.placement import bytes_needed
from tests.unit.examinations import MIB, candidacy, tiny_manifest

GIB = 2**30


def offer(cache_dir: Path, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "dtype": "float32",
        "device": "cpu",
        "roles": ("serve",),
        "memory_bytes": None,
        "cache_dir": cache_dir,
    }
    return candidacy_here(candidacy().entry, tiny_manifest(), **(fields | changes))


def test_a_full_node_offers_what_its_certificate_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda device: MIB)
    assert offer(tmp_path).memory_bytes == 0
    assert offer(tmp_path, held_bytes=3 * GIB).memory_bytes == 3 * GIB


def test_a_minimum_above_the_whole_model_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda device: 8 * GIB)
    assert offer(tmp_path).memory_bytes < GIB
    assert offer(tmp_path, asked_bytes=2 * GIB).memory_bytes == 2 * GIB
    assert offer(tmp_path, asked_bytes=2 * GIB, memory_bytes=GIB).memory_bytes == GIB


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


def test_files_that_are_here_need_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: usage)
    whole = sum(tensor.size for tensor in tiny_manifest().tensors.values())
    assert offer(tmp_path / "not there yet").disk_bytes == 1000
    kept = model_folder(tmp_path, candidacy().entry.model_root)
    kept.mkdir(parents=True)
    (kept / "one.safetensors").write_bytes(bytes(500))
    assert offer(tmp_path).disk_bytes == 1500
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "more than the model.safetensors").write_bytes(bytes(whole + 1))
    assert offer(tmp_path, folder=elsewhere).disk_bytes == 1000 + whole
