"""Weights by digest: once on disk however many models have them, swept out with the last; room that is promised."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from gridllm.errors import ModelError, NotAccepted
from gridllm.models.manifest import Manifest, manifest_bytes, root
from gridllm.models.weights import Checkpoint
from gridllm_leaderboard.upload.sending import Bundle
from gridllm_leaderboard.vault import room
from gridllm_leaderboard.vault.part import Part
from gridllm_leaderboard.vault.vault import Vault
from tests.unit.upload_hall import same_files, small_model

Usage = namedtuple("Usage", "total used free")
EMBED, HEAD, NORM = torch.arange(50_000.0), torch.arange(9.0), torch.ones(30_000)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", spare_bytes=0)


def put(vault: Vault, folder: Path, manifest: Manifest, *, only: int | None = None) -> str:
    """Bring a model without any network; ``only``: so many of its lacking parts."""
    name, raw, bundle = root(manifest), manifest_bytes(manifest), Bundle(folder, manifest)
    part = vault.manifest_part(name, len(raw))
    part.add(raw)
    assert vault.finish_manifest(name, part)
    for lack in vault.lacking(name, manifest)[:only]:
        size = lack.item.size if lack.item.size is not None else bundle.files[lack.item.sha256]
        part = vault.part(name, lack.item, size)
        while not part.complete:
            part.add(bundle.read(lack.item.sha256, part.offset))
        assert vault.finish(part, lack.item)
    if only is None:
        assert vault.assemble(name, manifest)
    return name


def inodes(folder: Path) -> set[int]:
    return {file.stat().st_ino for file in folder.glob("*.safetensors")}


def on_disk(vault: Vault) -> int:
    return sum(blob.stat().st_size for blob in vault._folder.glob("blobs/*/*/*"))


def test_equal_tensors_lie_on_the_disk_once(vault: Vault, tmp_path: Path) -> None:
    first = small_model(tmp_path / "a", 1, {"embed": EMBED, "norm": NORM})
    second = small_model(tmp_path / "b", 1, {"embed": EMBED, "norm": NORM + 1})
    one, two = put(vault, tmp_path / "a", first), put(vault, tmp_path / "b", second)
    folders = vault.folder(one), vault.folder(two)
    assert folders[0] is not None and folders[1] is not None
    assert len(inodes(folders[0]) & inodes(folders[1])) == 1
    assert same_files(folders[0], tmp_path / "a") and same_files(folders[1], tmp_path / "b")
    assert vault.roots() == sorted((one, two))


def test_a_model_that_goes_takes_what_nobody_else_has(vault: Vault, tmp_path: Path) -> None:
    first = small_model(tmp_path / "a", 1, {"embed": EMBED, "norm": NORM})
    second = small_model(tmp_path / "b", 2, {"embed": EMBED, "head": HEAD})
    one, two = put(vault, tmp_path / "a", first), put(vault, tmp_path / "b", second)
    before = on_disk(vault)
    freed = vault.remove(one)
    assert freed == before - on_disk(vault) and freed > NORM.numel() * 4
    assert vault.folder(one) is None and vault.manifest_bytes(one) is None
    kept = vault.folder(two)
    assert kept is not None and same_files(kept, tmp_path / "b")
    assert vault.remove(one) == 0
    vault.remove(two)
    assert on_disk(vault) == 0 and vault.roots() == []


def test_a_sweep_keeps_what_is_wanted_and_uploads_under_way(vault: Vault, tmp_path: Path) -> None:
    models = {name: {"embed": EMBED + number, "norm": NORM} for number, name in enumerate("abc")}
    manifests = {name: small_model(tmp_path / name, 1, tensors) for name, tensors in models.items()}
    one = put(vault, tmp_path / "a", manifests["a"])
    two = put(vault, tmp_path / "b", manifests["b"])
    three = put(vault, tmp_path / "c", manifests["c"], only=1)
    vault.reserve(three, 10)
    before = on_disk(vault)
    assert vault.sweep([two]) > 0
    assert vault.roots() == [two] and on_disk(vault) < before
    assert len(vault.lacking(three, manifests["c"])) == len(vault.lacking(one, manifests["a"])) - 1 == 0
    assert vault.expected(three) == manifests["c"]
    again = Vault(tmp_path / "vault", spare_bytes=0)  # after a start nothing is promised to it any more
    again.sweep([two])
    assert again.expected(three) is None and on_disk(again) < before - EMBED.numel() * 4
    left = again.folder(two)
    assert left is not None and same_files(left, tmp_path / "b")


def test_a_killed_assembly_is_done_again(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = small_model(tmp_path / "a", 1, {"embed": EMBED, "norm": NORM})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            put(vault, tmp_path / "a", manifest)
    name = root(manifest)
    again = Vault(tmp_path / "vault", spare_bytes=0)
    assert again.folder(name) is None and again.lacking(name, manifest) == []
    assert again.assemble(name, manifest) and again.assemble(name, manifest)
    folder = again.folder(name)
    assert folder is not None and same_files(folder, tmp_path / "a")


def test_what_was_swept_out_in_between_is_lacking_again(vault: Vault, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a", 1, {"embed": EMBED, "norm": NORM})
    name = put(vault, tmp_path / "a", manifest, only=2)
    for lack in vault.lacking(name, manifest):
        assert lack.offset == 0
    assert not vault.assemble(name, manifest)
    assert vault.folder(name) is None


def test_a_manifest_that_lies_about_a_size_makes_no_model(vault: Vault, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a", 1, {"embed": EMBED})
    put(vault, tmp_path / "a", manifest)
    other = small_model(tmp_path / "b", 1, {"embed": EMBED[:-1]})
    lie = {"embed": type(other.tensors["embed"])("F32", [49_999], 199_996, manifest.tensors["embed"].sha256)}
    lying = type(manifest)(1, "llama", {}, None, manifest.tokenizer, lie)
    part = vault.manifest_part(root(lying), len(manifest_bytes(lying)))
    part.add(manifest_bytes(lying))
    assert vault.finish_manifest(root(lying), part) and vault.lacking(root(lying), lying) == []
    with pytest.raises(ModelError, match="another size"):
        vault.assemble(root(lying), lying)
    assert vault.folder(root(lying)) is None


def test_a_part_goes_on_where_it_was(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    digest = hashlib.sha256(data).hexdigest()

    def part() -> Part:
        return Part(tmp_path / "x.part", digest, b"head", len(data))

    first = part()
    first.add(data[:3000])
    first.close()  # killed
    second = part()
    second.open()
    assert second.offset == 3000
    second.add(data[3000:])
    assert second.complete and second.finish(tmp_path / "blobs" / "x")
    assert (tmp_path / "blobs" / "x").read_bytes() == b"head" + data
    (tmp_path / "x.part").write_bytes(b"HEAD" + data[:50])  # of another layout
    third = part()
    third.open()
    assert third.offset == 0
    third.add(data[:-1] + b"?")
    assert not third.finish(tmp_path / "y")
    assert not (tmp_path / "x.part").exists() and not (tmp_path / "y").exists()


def test_room_is_promised_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(0, 0, 1_000_000))
    vault.reserve("a", 600_000)
    assert vault.free_bytes() == 400_000
    with pytest.raises(NotAccepted, match="has 0 MB free, and this model needs 0 MB"):
        vault.reserve("b", 400_001)
    vault.reserve("a", 300_000)
    vault.reserve("b", 700_000)
    vault.room.came("b", 200_000)
    assert vault.free_bytes() == 200_000
    vault.remove("b")
    vault.room.release("a")
    assert vault.free_bytes() == 1_000_000


def test_seeds_can_hand_it_out(vault: Vault, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    folder = vault.folder(put(vault, tmp_path / "a", manifest))
    assert folder is not None
    checkpoint = Checkpoint.open(folder)
    assert set(checkpoint.names) == set(manifest.tensors)
    shutil.rmtree(tmp_path / "a")
    assert {name: checkpoint.digest(name) for name in checkpoint.names} == {
        name: entry.sha256 for name, entry in manifest.tensors.items()
    }
