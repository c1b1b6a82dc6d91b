"""Models that were fetched only because they led the leaderboard make room for the next one; nothing else does."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.errors import ModelError, NoRoomError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.models import cached
from gridllm.models.borrowed import GONE_PREFIX, NOTE, Borrowing, name_model
from gridllm.models.cached import model_folder
from gridllm.models.fetching import obtain_weights
from gridllm.models.seeding import Seeding, Shelf
from gridllm.swarm.memory import MemoryNetwork
from tests.unit.test_models_seeding import demo

OLD, OLDER, NAMED = (ModelRoot(letter * 64) for letter in "abc")


class Cache:
    """A folder with models, and who borrows there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.needed: set[str] = set()
        self.borrowing = self.another()

    def another(self) -> Borrowing:
        return Borrowing(self.folder, lambda: self.needed)

    def fill(self, root: ModelRoot) -> Path:
        path = model_folder(self.folder, root)
        path.mkdir(parents=True, exist_ok=True)
        (path / "one.safetensors").write_bytes(b"weights")
        return path

    async def borrow(self, root: ModelRoot) -> Path:
        await self.borrowing.take(root)
        return self.fill(root)

    @property
    def roots(self) -> set[str]:
        return {path.name for path in (self.folder / "models").iterdir()}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    made = Cache(tmp_path / "cache")
    yield made
    for root in (OLD, OLDER, NAMED, demo()[2]):
        made.borrowing.release(root)


async def test_only_what_was_borrowed_goes_and_only_once_nobody_has_it_in_use(cache: Cache) -> None:
    cache.fill(NAMED)
    for root in (OLD, OLDER, NAMED):
        await cache.borrow(root)
    assert not await cache.borrowing.make_room(), "all are in use"
    for root in (OLDER, NAMED):
        cache.borrowing.release(root)
    assert await cache.borrowing.make_room()
    assert cache.roots == {OLD, NAMED}
    cache.borrowing.release(OLD)
    cache.needed = {OLD}
    assert not await cache.borrowing.make_room()
    cache.needed = set()
    assert await cache.borrowing.make_room()
    assert cache.roots == {NAMED}


async def test_another_process_has_it_in_use_and_a_new_one_remembers(cache: Cache) -> None:
    other = cache.another()
    await cache.borrow(OLD)
    await other.take(OLD)
    cache.borrowing.release(OLD)
    assert not await cache.borrowing.make_room()
    other.release(OLD)
    assert await cache.another().make_room()
    assert cache.roots == set()


async def test_two_processes_begin_at_once_and_both_have_it_in_use(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, touch, touched = cache.another(), Path.touch, list[Path]()

    def slowly(note: Path) -> None:
        touched.append(note)
        if len(touched) == 1:
            held = other._noted(OLD)
            assert held is not None, "it takes the folder of a moment for the user's"
            other._held[OLD] = held
        touch(note)

    monkeypatch.setattr(Path, "touch", slowly)
    await cache.borrow(OLD)
    cache.borrowing.release(OLD)
    assert not await cache.borrowing.make_room(), "the other has it"
    assert cache.roots == {OLD}
    other.release(OLD)
    assert await cache.borrowing.make_room()


async def test_a_model_that_was_named_since_stays(cache: Cache) -> None:
    folder = await cache.borrow(OLD)
    cache.borrowing.release(OLD)
    name_model(cache.folder, OLD)
    name_model(cache.folder, OLDER)
    await cache.borrow(OLD)
    cache.borrowing.release(OLD)
    assert not await cache.borrowing.make_room()
    assert folder.exists()


async def test_nothing_outside_the_cache_goes(cache: Cache, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "cache" / "models").mkdir(parents=True)
    for place in (elsewhere, tmp_path / "cache" / "models" / "mine"):
        place.mkdir()
        (place / NOTE).touch()
    (tmp_path / "cache" / "models" / OLD).symlink_to(elsewhere)
    assert not await cache.borrowing.make_room()
    assert cache.roots == {OLD, "mine"} and (elsewhere / NOTE).exists()


async def test_what_a_killed_process_had_put_aside_goes(cache: Cache) -> None:
    left = cache.fill(OLD)
    (left.parent / f"{GONE_PREFIX}x").mkdir()
    left.rename(left.parent / f"{GONE_PREFIX}x" / left.name)
    assert await cache.borrowing.make_room()
    assert cache.roots == set()


async def test_a_disk_without_locks_keeps_everything(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    await cache.borrow(OLD)
    cache.borrowing.release(OLD)
    assert not await cache.borrowing.make_room()
    assert cache.roots == {OLD}


async def test_a_fetch_without_room_takes_old_champions_off(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, manifest, root = demo()
    network = MemoryNetwork()
    seed, reader = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    shelf = Shelf()
    shelf.put(root, manifest, folder)
    await Seeding(shelf).serve(seed)
    old, named = await cache.borrow(OLD), cache.fill(NAMED)

    def usage(_: Path) -> SimpleNamespace:
        return SimpleNamespace(free=0 if old.exists() else 10**12)

    async def find() -> dict[PeerId, tuple[str, ...]]:
        return {seed.peer: seed.addresses}

    async def fetch(borrowing: Borrowing | None) -> Path:
        return await obtain_weights(
            reader, root, manifest, cache.folder, find, name="demo", blocks=(0, 1), ends=False, borrowing=borrowing
        )

    monkeypatch.setattr(cached, "shutil", SimpleNamespace(disk_usage=usage))
    await cache.borrowing.take(root)
    for borrowing in (None, cache.borrowing):
        with pytest.raises(NoRoomError, match="make room"):
            await fetch(borrowing)
    cache.borrowing.release(OLD)
    with pytest.raises(ModelError, match="make room"):
        await fetch(None)
    assert list((await fetch(cache.borrowing)).glob("*.safetensors"))
    assert not old.exists() and named.exists() and shutil.disk_usage(named).free
