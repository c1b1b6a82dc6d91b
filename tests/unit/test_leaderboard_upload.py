"""Uploads: whole, resumed at the byte, never twice what is there; strangers, garbage and full disks are refused."""

from __future__ import annotations

import asyncio
import errno
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from gridllm.errors import BadPayment, Full, Malformed, ModelError, NotAccepted, OutOfTurn, PeerLost, Refusal, TooSoon
from gridllm.identity.keys import Identity
from gridllm.models import cached
from gridllm.models.manifest import Manifest, manifest_bytes, root
from gridllm_leaderboard.upload import intake, receiving, sending
from gridllm_leaderboard.upload.wire import Begin, Declined, Piece, Want, encode, from_leaderboard
from gridllm_leaderboard.vault import room, vault
from tests.unit.upload_hall import Hall, same_files, small_model, until

PIECE = 64 * 1024
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (intake, sending, receiving):
        monkeypatch.setattr(module, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(intake, "WINDOW_BYTES", 4 * PIECE)
    monkeypatch.setattr(sending, "PAUSE_S", 0.01)
    monkeypatch.setattr(sending, "GIVE_UP_S", 2.0)


@pytest.fixture
async def hall(tmp_path: Path) -> Hall:
    made = Hall(tmp_path / "vault")
    await made.open()
    return made


async def test_a_model_arrives_whole_and_is_laid_out_as_a_cached_one(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    name = await hall.send(tmp_path / "a", manifest)
    folder = hall.vault.folder(name)
    assert folder is not None and same_files(folder, tmp_path / "a")
    manifest.check_config(folder)
    manifest.check_tokenizer(folder)
    assert hall.vault.manifest_bytes(name) == manifest_bytes(manifest)
    assert len(hall.desk.whole) == 1 and hall.vault.roots() == [name]
    total = sum(entry.size for entry in manifest.tensors.values()) + (tmp_path / "a/tokenizer.json").stat().st_size
    assert hall.progress[-1] == (total, total)
    assert not list((hall.folder / "incoming").iterdir())


async def test_it_goes_on_at_the_byte_after_either_side_was_killed(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    breaks = iter((300_000, 900_000, 1_500_000, 2_100_000))
    loop, at = asyncio.get_running_loop(), [next(breaks)]

    def spoil(sent: int) -> None:
        if sent >= at[0]:
            at[0] = next(breaks, 10**9)
            asyncio.run_coroutine_threadsafe(hall.restart(), loop).result(5)

    name = await hall.send(tmp_path / "a", manifest, spoil)
    folder = hall.vault.folder(name)
    assert folder is not None and same_files(folder, tmp_path / "a")
    total = sum(entry.size for entry in manifest.tensors.values()) + (tmp_path / "a/tokenizer.json").stat().st_size
    lost = 4 * 9 * PIECE  # at each break: what was asked for ahead, and what waited for the disk
    assert at[0] == 10**9 and total < sum(hall.read) < total + lost


async def interrupted(hall: Hall, folder: Path, manifest: Manifest, after: int) -> None:
    """An upload whose author ends after so many bytes."""

    def end(sent: int) -> None:
        if sent >= after:
            raise ModelError("the author ends")

    with pytest.raises(ModelError, match="the author ends"):
        await hall.send(folder, manifest, end)
    await until(lambda: hall.receiving.uploads == 0)


async def test_what_came_before_a_break_is_not_asked_for_again(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    await interrupted(hall, tmp_path / "a", manifest, 1_600_000)
    here = sum(part.stat().st_size for part in hall.folder.glob("incoming/*/*.part"))
    here += sum(blob.stat().st_size for blob in hall.folder.glob("blobs/*/*/*"))
    hall.read.clear()
    await hall.send(tmp_path / "a", manifest)
    total = sum(entry.size for entry in manifest.tensors.values())
    assert here > 500_000 and sum(hall.read) <= total - here + 8192


async def test_what_is_there_already_is_not_sent_again_under_whatever_name(hall: Hall, tmp_path: Path) -> None:
    made = torch.Generator().manual_seed(5)
    shared, own = torch.randn(100_000, generator=made), torch.randn(50_000, generator=made)
    first = small_model(tmp_path / "a", 1, {"embed": shared, "norm": own})
    second = small_model(tmp_path / "b", 1, {"embed": shared, "head": shared.clone(), "norm": own + 1})
    await hall.send(tmp_path / "a", first)
    assert sum(hall.read) > 600_000
    hall.read.clear()
    name = await hall.send(tmp_path / "b", second)
    assert sum(hall.read) == own.numel() * 4
    folder = hall.vault.folder(name)
    assert folder is not None and same_files(folder, tmp_path / "b")


async def test_a_spoilt_beginning_is_found_out_and_brought_again(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    await interrupted(hall, tmp_path / "a", manifest, 700_000)
    (part,) = hall.folder.glob("incoming/*/*.part")
    raw = bytearray(part.read_bytes())
    raw[-9] ^= 1  # as after a power cut
    part.write_bytes(raw)
    folder = hall.vault.folder(await hall.send(tmp_path / "a", manifest))
    assert folder is not None and same_files(folder, tmp_path / "a")


async def test_files_that_changed_since_they_were_read_are_not_kept(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    small_model(tmp_path / "a", seed=1)
    with pytest.raises(NotAccepted, match="files changed since they were read"):
        await hall.send(tmp_path / "a", manifest)
    assert hall.vault.roots() == [] and not hall.desk.whole


async def test_a_manifest_of_other_numbers_is_refused_for_good(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    submission = hall.enter(manifest)
    account, expected = hall.desk.known[submission]
    hall.enter = lambda manifest: submission  # type: ignore[method-assign]
    wrong = type(expected)(expected.root, expected.weights, expected.size - 4, expected.parameters)
    hall.desk.known[submission] = account, wrong
    with pytest.raises(Malformed, match="states another size"):
        await hall.send(tmp_path / "a", manifest)
    assert "states another size" in hall.desk.turned_down[submission]


# who may


async def _answer(hall: Hall, header: bytes, body: bytes = b"") -> Refusal:
    """What the leaderboard says to a first frame."""
    stream = await hall.stream()
    await stream.write(header, body)
    async with asyncio.timeout(60):
        said = from_leaderboard((await stream.read()).header)
    assert isinstance(said, Declined)
    with pytest.raises(PeerLost):
        await stream.read()
    return Refusal.from_wire(said.code, said.text)


async def test_only_the_author_brings_the_files(hall: Hall, tmp_path: Path) -> None:
    submission = hall.enter(small_model(tmp_path / "a"))
    other = Identity.ephemeral()
    told = await _answer(hall, encode(Begin(submission, hall.delegation(by=other), 9, {})))
    assert isinstance(told, NotAccepted)
    told = await _answer(hall, encode(Begin(submission, hall.delegation(client=other.peer), 9, {})))
    assert isinstance(told, BadPayment) and "for the connection" in str(told)
    told = await _answer(hall, encode(Begin("0" * 64, hall.delegation(), 9, {})))
    assert isinstance(told, NotAccepted)
    assert isinstance(await _answer(hall, encode(Begin(submission, b"{}", 9, {}))), BadPayment)
    assert not list((hall.folder / "incoming").iterdir())


@pytest.mark.parametrize("header, body, error", [
    (b"", b"", Malformed),
    (b"\xc1 garbage", b"", Malformed),
    (encode(Piece("0" * 64, 0)), b"x", OutOfTurn),
    (encode(Declined("full", "no")), b"", OutOfTurn),
    (encode(Begin("0" * 64, b"", 1, {})), b"x", OutOfTurn),
    (encode(Begin("0" * 64, b"", 1, {})).replace(b"0" * 64, b"z" * 64), b"", Malformed),
], ids=["empty", "garbage", "piece", "declined", "body", "id"])  # fmt: skip
async def test_garbage_at_the_beginning_has_a_name(
    hall: Hall, header: bytes, body: bytes, error: type[Refusal]
) -> None:
    assert isinstance(await _answer(hall, header, body), error)


@pytest.mark.parametrize("answer, error", [
    ((b"\x00", b""), Malformed),
    ((encode(Piece("1" * 64, 0)), b"x" * 10), OutOfTurn),
    (("late", b"x"), OutOfTurn),
    (("right", b"x"), Malformed),
    (("right", b""), Malformed),
    (("right", b"x" * (PIECE + 1)), Malformed),
], ids=["garbage", "another", "offset", "short", "none", "long"])  # fmt: skip
async def test_garbage_in_place_of_a_piece_has_a_name(
    hall: Hall, tmp_path: Path, answer: tuple[bytes | str, bytes], error: type[Refusal]
) -> None:
    manifest = small_model(tmp_path / "a")
    size = len(manifest_bytes(manifest))
    stream = await hall.stream()
    await stream.write(encode(Begin(hall.enter(manifest), hall.delegation(), size, {})))
    want = from_leaderboard((await stream.read()).header)
    assert isinstance(want, Want) and want.digest == root(manifest)
    header, body = answer
    if isinstance(header, str):
        header = encode(Piece(want.digest, want.offset + (header == "late")))
    await stream.write(header, body)
    said = from_leaderboard((await stream.read()).header)
    assert isinstance(said, Declined) and isinstance(Refusal.from_wire(said.code, said.text), error)


async def test_a_newer_stream_takes_the_place_of_an_older(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    older = await hall.stream()  # of a process that was killed, as far as the leaderboard can tell
    begin = Begin(hall.enter(manifest), hall.delegation(), len(manifest_bytes(manifest)), {})
    await older.write(encode(begin))
    await until(lambda: hall.receiving.uploads == 1)
    assert hall.vault.folder(await hall.send(tmp_path / "a", manifest)) is not None
    said = from_leaderboard((await older.read()).header)
    if isinstance(said, Want):  # of the manifest, if it got so far
        said = from_leaderboard((await older.read()).header)
    assert isinstance(said, Declined) and "Another process" in said.text


async def test_streams_are_bounded_and_silent_ones_are_ended(
    hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "FIRST_S", 2.0)
    monkeypatch.setattr(intake, "PIECE_S", 0.2)
    silent = [await hall.stream() for _ in range(receiving.STREAMS_PER_PEER)]
    await asyncio.sleep(0.05)
    one_more = await hall.stream()
    said = from_leaderboard((await one_more.read()).header)
    assert isinstance(said, Declined) and said.code == Full.code
    for stream in silent:
        said = from_leaderboard((await stream.read()).header)
        assert isinstance(said, Declined) and said.code == TooSoon.code
    manifest = small_model(tmp_path / "a")
    stream = await hall.stream()
    await stream.write(encode(Begin(hall.enter(manifest), hall.delegation(), 9, {})))
    assert isinstance(from_leaderboard((await stream.read()).header), Want)
    said = from_leaderboard((await stream.read()).header)
    assert isinstance(said, Declined) and said.code == TooSoon.code
    assert hall.receiving.uploads == 0


# a full disk


async def test_a_model_that_finds_no_room_is_refused_before_its_bytes(
    hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = small_model(tmp_path / "a")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(0, 0, 2_000_000))
    with pytest.raises(NotAccepted, match="has 2 MB free, and this model needs 3 MB"):
        await hall.send(tmp_path / "a", manifest)
    assert sum(hall.read) == 0


async def test_a_disk_that_fills_up_in_the_midst_keeps_what_came(
    hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = small_model(tmp_path / "a")

    def usage(_: object) -> Usage:
        written = sum(file.stat().st_size for file in hall.folder.rglob("*") if file.is_file())
        return Usage(0, 0, 10**9 if written < 1_500_000 else 0)  # the first tensor has 1.2 MB

    with monkeypatch.context() as patch:
        patch.setattr(room.shutil, "disk_usage", usage)
        with pytest.raises(NotAccepted, match="disk is full .0 MB free"):
            await hall.send(tmp_path / "a", manifest)
    assert hall.vault.roots() == []
    hall.read.clear()
    folder = hall.vault.folder(await hall.send(tmp_path / "a", manifest))
    assert folder is not None and same_files(folder, tmp_path / "a")
    assert sum(hall.read) <= 1_400_032 + (tmp_path / "a/tokenizer.json").stat().st_size


async def test_a_write_that_fails_leaves_nothing_half_written(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(NotAccepted, match="disk is full"):
            await hall.send(tmp_path / "a", manifest)
        await until(lambda: hall.receiving.uploads == 0)
        assert not list(hall.folder.glob("incoming/*/*.part"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert hall.vault.folder(await hall.send(tmp_path / "a", manifest)) is not None


async def test_a_disk_that_is_full_at_the_last_step_refuses_nobody_for_good(
    hall: Hall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = small_model(tmp_path / "a")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module in (cached, vault):
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_atomically", full)
            with pytest.raises(NotAccepted, match="disk is full"):
                await hall.send(tmp_path / "a", manifest)
    assert hall.desk.turned_down == {} and hall.vault.roots() == []
    hall.read.clear()
    assert hall.vault.folder(await hall.send(tmp_path / "a", manifest)) is not None
    assert sum(hall.read) == 0


async def test_the_plan_tells_what_is_here(hall: Hall, tmp_path: Path) -> None:
    manifest = small_model(tmp_path / "a")
    await hall.send(tmp_path / "a", manifest)
    shutil.rmtree(hall.folder / "models" / root(manifest))
    hall.progress.clear()
    hall.read.clear()
    await hall.send(tmp_path / "a", manifest)
    done, total = hall.progress[0]
    assert done == total and sum(hall.read) == 0
