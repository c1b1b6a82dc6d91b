"""A node that follows the champion has a model's files in use for as long as it serves it, and no longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridllm.models.borrowed import NOTE, Borrowing
from gridllm.models.cached import model_folder
from gridllm.models.manifest import build_manifest, manifest_bytes
from gridllm.node import source
from tests.unit.node_heirs import crown, heir, hurry, said, served
from tests.unit.node_life import living
from tests.unit.notes import until


@pytest.mark.parametrize("follows", [True, False], ids=["champion", "named"])
async def test_files_are_borrowed_until_their_model_is_served_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    hurry(monkeypatch)
    files, cache = tmp_path / "files", tmp_path / "cache"
    entry = heir(files)

    async def fetched(*_: Any, **__: Any) -> Path:
        return files

    monkeypatch.setattr(source, "obtain_weights", fetched)
    note = model_folder(cache, entry.model_root) / NOTE
    borrowing = Borrowing(cache, set)
    await borrowing.take(entry.model_root)  # by a run before
    borrowing.release(entry.model_root)
    wishes = {"cache_dir": cache, "borrowing": borrowing if follows else None}
    async with living(tmp_path, champions={entry.root: None}, blocks=(0, 8), grace_s=0.5, **wishes) as life:
        life.pins.save_manifest(entry.model_root, manifest_bytes(build_manifest(files)))
        await life.serving()
        crown(life, entry)
        await served(life, entry)
        await until(lambda: said(life, "demo is served here no longer"))
        assert note.exists() == follows
        if follows:
            assert not await borrowing.make_room(), "it is served"
        crown(life, life.entry)
        await until(lambda: said(life, "heir is served here no longer"))
        assert await borrowing.make_room() == follows
        assert note.parent.exists() != follows
