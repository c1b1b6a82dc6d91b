"""What ``gridllm bench`` measures: the pinned grid's model and amended minimums, or the demo model without a grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import Admission, Minimums
from gridllm.charter.pin import Pins
from gridllm.cli.bench_subject import find_subject
from gridllm.errors import CharterError, ModelError
from gridllm.models.files import find_model
from gridllm.models.manifest import build_manifest, manifest_bytes
from gridllm.settings import Settings
from tests.certificates import amendment, closed_grid
from tests.charters import ENTRY
from tests.unit.examinations import candidacy, tiny_manifest


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, state_dir=folder, cache_dir=folder)


def test_without_a_grid_it_is_the_demo_model_and_a_new_grids_minimums(tmp_path: Path) -> None:
    subject = find_subject(settings(tmp_path), None, None, None)
    assert (subject.grid, subject.entry.name, subject.entry.dtype) == (None, "demo", "float32")
    assert subject.admission.serve.decode_blocks_per_s >= subject.entry.blocks
    assert subject.manifest == build_manifest(find_model("demo"))


def test_a_pinned_grids_model_and_its_minimums_as_amended(tmp_path: Path) -> None:
    entry = candidacy().entry
    signed = closed_grid(models=[ENTRY, entry])
    pins = Pins(tmp_path)
    pins.pin(signed)
    pins.save_manifest(entry.model_root, manifest_bytes(tiny_manifest()))
    changed = Admission(required=True, serve=Minimums(decode_blocks_per_s=321))
    NoticeBoard(signed, pins.notices_path(signed)).add(amendment(signed, changed))
    subject = find_subject(settings(tmp_path), None, "tiny", None)
    assert (subject.grid, subject.grid_name, subject.entry) == (signed.grid, signed.charter.name, entry)
    assert subject.admission == changed
    assert subject.manifest == tiny_manifest()


def test_unknown_grids_models_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="nowhere"):
        find_subject(settings(tmp_path), "nowhere", None, None)
    with pytest.raises(ModelError, match="no config"):
        find_subject(settings(tmp_path), None, None, tmp_path)
    Pins(tmp_path).pin(closed_grid())
    with pytest.raises(CharterError, match="serves no model 'other'"):
        find_subject(settings(tmp_path), None, "other", None)
