"""Backups of a leaderboard: everything comes back, the same; what was altered, cut short or is another's does not."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import text, update

from gridllm.database.engine import reading, writing
from gridllm.errors import GridError, LeaderboardError, UsageError
from gridllm.identity.keys import Identity, load_or_create
from gridllm.models.manifest import manifest_bytes, parse_manifest, root
from gridllm_leaderboard.backup.restoring import Target, restore
from gridllm_leaderboard.backup.saving import Saved, save
from gridllm_leaderboard.cli import backup as command
from gridllm_leaderboard.place import Place
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.schema import metadata, submissions
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.vault import room
from gridllm_leaderboard.vault.vault import Vault
from tests.leaderboard_seasons import GRID, LEADERBOARD, digest, submitted, whole_round, withdrawn
from tests.unit.test_leaderboard_decisions import rules
from tests.unit.upload_hall import small_model

ACCOUNT = LEADERBOARD.public_key.hex()
Usage = namedtuple("Usage", "total used free")


class Board:
    """A leaderboard on disk, opened as a command would."""

    def __init__(self, place: Place) -> None:
        place.folder.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.engine = open_engine(place.database_url)
        self.store = LeaderboardStore(self.engine)
        self.vault = Vault(place.vault)

    def save(self, path: Path, *, weights: bool = True) -> Saved:
        return save(path, self.store, self.vault if weights else None, GRID, ACCOUNT, lambda done, total: None)

    def restore(self, path: Path, *, force: bool = False, grid: str | None = GRID) -> Saved:
        return restore(path, grid, Target(self.store, self.vault, force), lambda done, total: None)

    def rows(self) -> dict[str, list[Any]]:
        with reading(self.engine) as connection:
            return {
                name: sorted(map(repr, connection.execute(table.select()))) for name, table in metadata.tables.items()
            }

    def files(self) -> dict[str, bytes]:
        names = [file for file in sorted(self.place.vault.rglob("*")) if file.is_file()]
        return {str(file.relative_to(self.place.vault)): file.read_bytes() for file in names}


@pytest.fixture
def open_board(tmp_path: Path) -> Any:
    made: list[Board] = []

    def opened(name: str = "board") -> Board:
        made.append(Board(Place(tmp_path / name)))
        return made[-1]

    yield opened
    for board in made:
        board.store.close()


def put_model(vault: Vault, folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    """A whole model in the vault: its root."""
    manifest = parse_manifest(manifest_bytes(small_model(folder, len(tensors), tensors)))
    name = root(manifest)
    part = vault.manifest_part(name, len(manifest_bytes(manifest)))
    part.add(manifest_bytes(manifest))
    assert vault.finish_manifest(name, part)
    for lack in vault.lacking(name, manifest):
        item = lack.item
        raw = (folder / item.name).read_bytes() if item.file else tensors[item.name].numpy().tobytes()
        part = vault.part(name, item, len(raw))
        part.add(raw)
        assert vault.finish(part, item)
    assert vault.assemble(name, manifest)
    return name


@pytest.fixture
def board(open_board: Callable[..., Board], tmp_path: Path) -> Board:
    """Two rounds; of five models two have weights, which share a tensor; one without was withdrawn."""
    made = open_board()
    shared = torch.arange(1000, dtype=torch.float32)
    first = put_model(made.vault, tmp_path / "first", {"shared": shared, "own": torch.ones(70_000)})
    second = put_model(made.vault, tmp_path / "second", {"shared": shared, "own": torch.zeros(9), "more": shared + 1})
    entries = [submitted(0, root=first), submitted(1, root=second), *map(submitted, range(2, 5))]
    with made.store.writing() as batch:
        champion = whole_round(batch, 1, entries[:2])
        whole_round(batch, 2, entries[2:4], champion)
        batch.enter(entries[4])
        batch.withdraw(entries[4].id, withdrawn(entries[4]))
        batch.spend("facts", [digest(1)])
        batch.keep("cursor", "7")
        batch.overlaps(entries[0].id, {"sums": 0.25})
    return made


def test_everything_comes_back_the_same(board: Board, open_board: Callable[..., Board], tmp_path: Path) -> None:
    saved = board.save(tmp_path / "backup.tar")
    assert (saved.submissions, saved.rounds, saved.models, len(saved.lacking)) == (5, 2, 2, 2)
    assert saved.size == (tmp_path / "backup.tar").stat().st_size
    assert (tmp_path / "backup.tar").stat().st_mode & 0o077 == 0
    other = open_board("other")
    assert other.restore(tmp_path / "backup.tar") == saved
    assert other.rows() == board.rows()
    assert other.files() == board.files()
    with pytest.raises(LeaderboardError, match="not empty"):
        other.restore(tmp_path / "backup.tar")
    with other.store.writing() as batch:
        batch.enter(submitted(9))
    other.restore(tmp_path / "backup.tar", force=True)
    assert other.rows() == board.rows()


def test_it_takes_no_more_room_than_its_weights_have(
    open_board: Callable[..., Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, other = open_board(), open_board("other")
    tensors = [{"own": torch.full((100_000,), float(number))} for number in range(3)]
    roots = [put_model(board.vault, tmp_path / str(number), one) for number, one in enumerate(tensors)]
    with board.store.writing() as batch:
        for number, name in enumerate(roots):
            batch.enter(submitted(number, root=name))
    board.save(tmp_path / "backup.tar")

    def usage(_: object) -> Usage:
        written = sum(file.stat().st_size for file in other.place.vault.rglob("*") if file.is_file())
        return Usage(0, 0, room.SPARE_BYTES + 1_300_000 - written)

    monkeypatch.setattr(room.shutil, "disk_usage", usage)
    assert other.restore(tmp_path / "backup.tar").models == 3


def test_without_weights(board: Board, open_board: Callable[..., Board], tmp_path: Path) -> None:
    saved = board.save(tmp_path / "backup.tar", weights=False)
    assert (saved.models, len(saved.lacking), saved.size < 100_000) == (0, 4, True)
    other = open_board("other")
    assert other.restore(tmp_path / "backup.tar") == saved
    assert other.rows() == board.rows() and other.vault.roots() == []


def test_who_waits_without_weights_is_asked_for_them_again(
    open_board: Callable[..., Board], board: Board, tmp_path: Path
) -> None:
    with board.store.writing() as batch:
        batch.enter(submitted(6))
        batch.paid(submitted(6).id, digest("transfer"))
    board.save(tmp_path / "backup.tar", weights=False)
    other = open_board("other")
    other.restore(tmp_path / "backup.tar")
    with other.store.reading() as view:
        found = view.entry(submitted(6).id)
        assert found is not None and found.paid and found.state == "uploading" and "upload them again" in found.why
        assert {entry.state for entry in view.entries(offset=1)} == {"graded", "withdrawn"}


def test_what_is_written_meanwhile_is_in_it_whole_or_not_at_all(board: Board, tmp_path: Path) -> None:
    before = board.rows()
    others: list[int] = []

    def tell(done: int, total: int) -> None:
        if not others:
            others.append(done)
            with board.store.writing() as batch:
                whole_round(batch, 3, [submitted(7), submitted(8)], batch.champion())

    saved = save(tmp_path / "backup.tar", board.store, board.vault, GRID, ACCOUNT, tell)
    assert saved.rounds == 2 and others and board.rows() != before
    assert restore(tmp_path / "backup.tar", GRID, None, lambda done, total: None) == saved


def test_what_was_altered_or_cut_short_is_refused_and_nothing_of_it_is_kept(
    board: Board, open_board: Callable[..., Board], tmp_path: Path
) -> None:
    board.save(tmp_path / "backup.tar")
    raw = (tmp_path / "backup.tar").read_bytes()
    chance = random.Random(5)
    other, empty, bad = open_board("other"), open_board("empty").rows(), tmp_path / "bad.tar"
    for length in (0, 100, len(raw) // 3, len(raw) - 30_000):
        bad.write_bytes(raw[:length])
        with pytest.raises(LeaderboardError):
            other.restore(bad, force=True)
        assert other.rows() == empty
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        spots = [(one.offset_data, one.size) for one in tar.getmembers()]
    for start, size in spots:
        spoilt = bytearray(raw)
        spoilt[start + chance.randrange(size)] ^= 1 << chance.randrange(8)
        bad.write_bytes(spoilt)
        with pytest.raises(GridError):
            other.restore(bad, force=True)
        assert other.rows() == empty
    other.restore(tmp_path / "backup.tar", force=True)  # over what the tries before left of weights
    assert other.rows() == board.rows() and other.vault.roots() == board.vault.roots()


def test_rows_that_are_not_what_their_documents_say_are_named(board: Board, tmp_path: Path) -> None:
    with writing(board.engine) as connection:
        connection.execute(update(submissions).where(submissions.c.number == 3).values(weights=digest("other")))
    with pytest.raises(LeaderboardError, match="Row 3 of submissions is not sound: its column weights"):
        board.save(tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE grades SET grader = '" + "0" * 64 + "' WHERE number = 2", "Row 2 of grades.*its column grader"),
        ("UPDATE rounds SET draw = (SELECT draw FROM rounds WHERE number = 1)", "Row 2 of rounds.*another lock"),
        ("UPDATE lines SET size = size + 1", "of lines is not sound: its lines have another root"),
        ("UPDATE lines SET data = x'00'", "cannot be read .its end is missing"),
        ("UPDATE submissions SET state = 'best' WHERE number = 1", "its state is 'best'"),
        ("UPDATE reigns SET submission = 'x'", "its champion is unknown"),
        ("DELETE FROM rounds WHERE number = 1", "its lock is of another round"),
    ],
    ids=["grader", "draw", "size", "rotten", "state", "reign", "gap"],
)
def test_unsound_rows(board: Board, tmp_path: Path, statement: str, said: str) -> None:
    with writing(board.engine) as connection:
        connection.execute(text(statement))
    with pytest.raises(LeaderboardError, match=said):
        board.save(tmp_path / "backup.tar")


def test_another_grids_or_keys_backup_is_refused(board: Board, tmp_path: Path) -> None:
    board.save(tmp_path / "backup.tar")
    with pytest.raises(LeaderboardError, match="another grid"):
        board.restore(tmp_path / "backup.tar", force=True, grid="b" * 64)
    stranger = Identity.ephemeral().public_key.hex()
    with pytest.raises(LeaderboardError, match="Row 1 of rounds is not sound: A lock cannot be used"):
        save(tmp_path / "other.tar", board.store, None, GRID, stranger, lambda done, total: None)
    with pytest.raises(LeaderboardError, match="There is no backup"):
        board.restore(tmp_path / "nowhere.tar", force=True)


def test_damaged_weights_are_not_saved_as_sound_ones(board: Board, tmp_path: Path) -> None:
    folder = board.vault.folder(board.vault.roots()[0])
    assert folder is not None
    tensor = max(folder.glob("*.safetensors"), key=lambda file: file.stat().st_size)
    tensor.write_bytes(tensor.read_bytes()[:-1] + b"x")
    with pytest.raises(LeaderboardError, match="is damaged; its model has to be uploaded again"):
        board.save(tmp_path / "backup.tar")


def test_commands(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"here": board.place, "new": Place(tmp_path / "new"), "none": Place(tmp_path / "none")}
    monkeypatch.setattr(command, "place_at", lambda home, name: (GRID, places[name]))
    monkeypatch.setattr(command, "rules_at", lambda home, name: rules())
    key = load_or_create(places["none"].key)
    with pytest.raises(UsageError, match="no leaderboard's database"):
        command.backup(tmp_path / "x.tar", name="none")
    monkeypatch.setattr("gridllm.identity.keys.load", lambda path: LEADERBOARD if "none" not in str(path) else key)
    command.backup(tmp_path / "x.tar", name="here", as_json=True)
    assert json.loads(capsys.readouterr().out)["submissions"] == 5
    command.restore(tmp_path / "x.tar", check=True)
    assert "5 submissions, 2 rounds, weights of 2 models" in capsys.readouterr().out
    places["new"].folder.mkdir()
    load_or_create(places["new"].key)
    command.restore(tmp_path / "x.tar", name="new", as_json=True)
    assert json.loads(capsys.readouterr().out)["models"] == 2
    fresh = Board(places["new"])
    assert fresh.rows() == board.rows()
    fresh.store.close()
