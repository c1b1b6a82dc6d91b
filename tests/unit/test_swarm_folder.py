"""Sockets lie in private; what killed processes left behind is swept away, what the living use is not."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from gridllm.swarm.folder import LOCK, PREFIX, SETTLED_S, SocketFolder, sweep


def age(folder: Path) -> None:
    long_ago = time.time() - 2 * SETTLED_S
    os.utime(folder, (long_ago, long_ago))


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("gridllm.swarm.folder.MAX_BASE_CHARS", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes_away(base: Path) -> None:
    folder = SocketFolder()
    assert folder.path.parent == base
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert not folder.path.exists()
    dropped = SocketFolder().path  # nobody holds on to it
    assert not dropped.exists()


def test_only_the_dead_are_swept(base: Path) -> None:
    living = SocketFolder()
    dead, young, foreign = base / f"{PREFIX}dead", base / f"{PREFIX}young", base / f"{PREFIX}foreign"
    for folder in (dead, young, foreign):
        folder.mkdir()
    for folder in (dead, young):
        (folder / LOCK).touch()
        (folder / "socket").touch()
    for folder in (dead, foreign, living.path):
        age(folder)
    sweep(base)
    assert {folder.name for folder in base.iterdir()} == {living.path.name, young.name, foreign.name}
    living.remove()
