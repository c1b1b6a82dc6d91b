"""An upload of many small tensors: each is a file of its own, and a process may have few of them open."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from gridllm_leaderboard.upload import writing
from gridllm_leaderboard.vault.part import Part
from tests.unit.upload_hall import Hall, small_model

MOST_OPEN = 2 * writing.BATCH_PIECES + writing.FINISHING
"""What one thread writes, what the next one is to write, what is synced."""


async def test_few_files_are_open_at_once_however_fast_small_tensors_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = Hall(tmp_path / "vault")
    await hall.open()
    held: set[Part] = set()
    most = 0
    usual_open, usual_close = Part.open, Part.close

    def opened(part: Part) -> None:
        nonlocal most
        time.sleep(0.002)  # the disk is slower than the network
        usual_open(part)
        held.add(part)
        most = max(most, len(held))

    def closed(part: Part) -> None:
        usual_close(part)
        held.discard(part)

    monkeypatch.setattr(Part, "open", opened)
    monkeypatch.setattr(Part, "close", closed)
    tensors = {f"layers.{number}": torch.full((2,), float(number)) for number in range(80)}
    name = await hall.send(tmp_path / "a", small_model(tmp_path / "a", 0, tensors))
    assert hall.vault.folder(name) is not None
    assert 0 < most <= MOST_OPEN and not held
