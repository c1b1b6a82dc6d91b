"""A champion whose files the leaderboard lost: they are fetched back, or the title becomes vacant; nothing is stuck."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import NotAccepted
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.models import fetching
from gridllm.models.seeding import Seeding, Shelf
from gridllm.swarm.helpers import Helpers
from gridllm.wire.helper import HelperRecord
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk import agenda, safekeeping
from gridllm_leaderboard.statements import Lock, Withdrawal, sign, verify_document
from gridllm_leaderboard.vault.mending import discard, fault_of, known_manifest, renew, salvage
from gridllm_leaderboard.vault.vault import Vault
from tests.unit import upload_hall
from tests.unit.leaderboard_house import House, hex_of, house

QUALITY = {"model 1": 0.9, "model 2": 0.5, "model 3": 0.7}.__getitem__


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and tries follow each other without a pause."""
    monkeypatch.setitem(upload_hall.CONFIG, "num_attention_heads", 2)  # whoever fetches a model reads its config
    monkeypatch.setattr(safekeeping, "LOOK_S", 0.1)
    monkeypatch.setattr(safekeeping, "AGAIN_S", 0.1)
    monkeypatch.setattr(agenda, "AGAIN_S", 0.1)
    monkeypatch.setattr(fetching, "LOOKS", 1)
    monkeypatch.setattr(fetching, "LOOK_EVERY_S", 0.05)


def vault_of(made: House) -> Vault:
    assert made.opened is not None
    return made.opened.desk.vault


def spoil(folder: Path) -> None:
    """One bit of the largest tensor."""
    file = max(folder.glob("*.safetensors"), key=lambda one: one.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


async def crowned(made: House, seed: int = 1) -> tuple[str, str]:
    """A champion: its id and root."""
    id_ = await made.submit(seed)
    await made.grade_all(QUALITY)
    view = await made.until(id_, "graded")
    assert view.champion
    return id_, view.root


async def seeding(made: House, root: str, copy: Path) -> None:
    """Somebody in the grid hands out the model in ``copy``."""
    swarm, shelf = made.network.join(Identity.ephemeral()), Shelf()
    manifest = known_manifest(vault_of(made), root)
    assert manifest is not None
    shelf.put(ModelRoot(root), manifest, copy)
    await Seeding(shelf).serve(swarm)
    fields: dict[str, Any] = {"peer": swarm.peer, "version": "1", "role": "seed", "models": [root]}
    fields |= {"addresses": list(swarm.addresses), "since": time.time()}
    await Helpers(swarm, made.signed.grid).publish(HelperRecord(**fields))


async def lock_of(made: House, id_: str) -> Lock:
    """Of the round that graded it last."""
    dossier = await made.ask(made.author, messages.DOSSIER_CALL, messages.AskDossier(id_), messages.Dossier)
    return verify_document(dossier.lock, Lock, made.signed.grid, hex_of(made.identity))


async def test_lost_files_are_fetched_from_the_grid_and_rounds_go_on(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        id_, root = await crowned(made)
        folder = vault_of(made).folder(root)
        assert folder is not None
        shutil.copytree(folder, tmp_path / "copy")
        spoil(folder)
        shutil.rmtree(folder)
        told = await made.until_told("trouble")
        assert "nobody hands it out" in told["text"] and "gridllm seed --model 'model 1'" in told["text"]
        other = await made.submit(2)
        await made.until_why(other, "while the champion's files are looked for")
        await seeding(made, root, tmp_path / "copy")
        await made.until_told("found")
        assert fault_of(vault_of(made), root, thorough=True) == ""
        await made.grade_all(QUALITY)
        assert (await made.until(other, "graded")).champion is False
        assert (await lock_of(made, other)).champion == id_


async def test_after_a_while_the_title_is_vacant_and_its_owner_may_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as made:
        id_, root = await crowned(made)
        folder = vault_of(made).folder(root)
        assert folder is not None
        shutil.copytree(folder, tmp_path / "copy")
        shutil.rmtree(folder)
        await made.until_told("trouble")
        second = await made.submit(2)
        assert (await made.until(second, "queued")).state == "queued"
        monkeypatch.setattr(safekeeping, "PATIENCE_S", 1)
        await made.grade_all(QUALITY)
        view = await made.until(second, "graded")
        assert view.champion and (await lock_of(made, second)).champion is None
        assert not (await made.view(id_)).champion
        dossier = await made.ask(made.author, messages.DOSSIER_CALL, messages.AskDossier(second), messages.Dossier)
        assert dossier.champion_grades == []

        ask = messages.Regrade(made.delegation(made.author), id_)
        with pytest.raises(NotAccepted, match="not on the leaderboard's disk"):
            await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        shutil.copytree(tmp_path / "copy", folder)
        await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        await made.grade_all(QUALITY)
        assert (await made.until(id_, "graded")).champion
        with pytest.raises(NotAccepted, match="is champion"):
            await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)


async def test_a_round_that_lacks_the_champion_is_annulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as made:
        id_, root = await crowned(made)
        second = await made.submit(2)
        work = await made.until_work(made.grader)
        assert len(work.tasks) == 2
        folder = vault_of(made).folder(root)
        assert folder is not None
        shutil.rmtree(folder)
        monkeypatch.setattr(safekeeping, "PATIENCE_S", 1)
        told = await made.until_told("annulled")
        assert "the champion's files were lost" in told["text"]
        await made.grade_all(QUALITY)
        assert (await made.until(second, "graded")).champion
        assert not (await made.view(id_)).champion


@pytest.mark.soak
async def test_who_comes_back_before_anybody_followed_reigns_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as made:
        id_, root = await crowned(made)
        folder = vault_of(made).folder(root)
        assert folder is not None
        folder.rename(tmp_path / "elsewhere")
        monkeypatch.setattr(safekeeping, "PATIENCE_S", 0)
        told = await made.until_told("trouble")
        assert "The title is vacant" in told["text"]
        view = await made.view(id_)
        assert not view.champion and view.state == "graded"
        (tmp_path / "elsewhere").rename(folder)
        await made.until_told("found")
        assert (await made.view(id_)).champion


@pytest.mark.soak
async def test_a_champion_that_lost_the_title_so_may_be_withdrawn_and_is_looked_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as made:
        id_, root = await crowned(made)
        folder = vault_of(made).folder(root)
        assert folder is not None
        shutil.rmtree(folder)
        monkeypatch.setattr(safekeeping, "PATIENCE_S", 0)
        await made.until_told("trouble")
        account = hex_of(made.author)
        said = Withdrawal(grid=made.signed.grid, account=account, submission=id_, issued=int(made.clock()))
        ask = messages.Withdraw(sign(said, made.author))
        assert (await made.ask(made.author, messages.WITHDRAW_CALL, ask, messages.SubmissionView)).state == "withdrawn"
        assert made.opened is not None
        assert await made.opened.desk.books.read(safekeeping.crowned_last) is None
        second = await made.submit(2)
        await made.grade_all(QUALITY)
        assert (await made.until(second, "graded")).champion


async def test_who_waits_and_whose_files_are_gone_is_asked_for_them(tmp_path: Path) -> None:
    async with house(tmp_path, round_s=20_000) as made:
        id_ = await made.submit(1)
        view = await made.until(id_, "queued")
        folder = vault_of(made).folder(view.root)
        assert folder is not None
        await made.stop()
        shutil.rmtree(folder)
        await made.start()
        view = await made.until(id_, "uploading")
        assert view.why == "The leaderboard no longer has its files; upload them again."
        await made.bring(1, id_)
        await made.until(id_, "queued")


def test_what_is_sound_is_kept_and_the_rest_comes_anew(tmp_path: Path) -> None:
    import torch

    from tests.unit.test_leaderboard_backup import put_model

    vault = Vault(tmp_path / "vault")
    root = put_model(vault, tmp_path / "model", {"one": torch.ones(9_000), "two": torch.zeros(70_000)})
    folder, manifest = vault.folder(root), known_manifest(vault, root)
    assert folder is not None and manifest is not None and fault_of(vault, root, thorough=True) == ""
    shutil.copytree(folder, tmp_path / "copy")
    spoil(folder)
    assert fault_of(vault, root, thorough=False) == ""  # no size tells
    assert "Tensor two" in fault_of(vault, root, thorough=True)
    cache = salvage(vault, root, manifest)
    found = cache / "models" / root
    assert sorted(one.name for one in found.iterdir()) == sorted({*_names(folder)} - {_names(folder, largest=True)[0]})
    assert not renew(vault, root, manifest, cache)  # a tensor lacks
    lacking = _names(folder, largest=True)[0]
    shutil.copy(tmp_path / "copy" / lacking, found / lacking)
    assert renew(vault, root, manifest, cache)
    assert fault_of(vault, root, thorough=True) == "" and not vault.incoming(root).exists()

    folder = vault.folder(root)
    assert folder is not None
    spoil(folder)
    discard(vault, root, manifest)
    assert fault_of(vault, root, thorough=False) == "its files are gone"
    assert [lack.item.name for lack in vault.lacking(root, manifest)] == ["two"]
    kept = folder.parent.parent / "manifests" / f"{root}.json"
    kept.unlink()
    assert known_manifest(vault, root) is None
    kept.mkdir()  # as good as a sector that cannot be read
    assert known_manifest(vault, root) is None and fault_of(vault, root, thorough=False) == "its files are gone"


def _names(folder: Path, *, largest: bool = False) -> list[str]:
    files = sorted(folder.iterdir(), key=lambda one: -one.stat().st_size)
    return [one.name for one in (files[:1] if largest else files)]
