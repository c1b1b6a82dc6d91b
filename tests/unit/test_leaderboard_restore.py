"""What a restoration looks at before it writes, and the weights that it puts back alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import LeaderboardError
from gridllm.identity.keys import load_or_create
from gridllm_leaderboard.backup import preparing
from gridllm_leaderboard.backup.preparing import Ground, check_ground, survey
from gridllm_leaderboard.backup.restoring import Target, restore
from gridllm_leaderboard.cli import backup as command
from gridllm_leaderboard.place import Place
from gridllm_leaderboard.store.engine import holds_rows, open_engine
from gridllm_leaderboard.vault.mending import fault_of
from tests.leaderboard_seasons import GRID
from tests.unit.test_leaderboard_backup import ACCOUNT, Board, board, open_board
from tests.unit.test_leaderboard_decisions import rules

__all__ = ["board", "open_board"]  # fixtures

OTHER = "d4" * 32


@pytest.fixture
def saved(board: Board, tmp_path: Path) -> Path:
    board.save(tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def ground(place: Place, **changes: Any) -> Ground:
    return replace(Ground(GRID, place.key, place.vault, ACCOUNT, rules(), ""), **changes)


def test_a_backup_is_looked_through(board: Board, saved: Path, tmp_path: Path) -> None:
    found = survey(saved)
    assert found.header.account == ACCOUNT and found.rows > 1000
    assert {name.split("/")[1] for name in found.weights} == set(board.vault.roots())
    check_ground(found, saved, ground(Place(tmp_path / "new")))
    raw = saved.read_bytes()
    for length in (100, 3000, len(raw) // 2, len(raw) - 20_000):
        (tmp_path / "cut.tar").write_bytes(raw[:length])
        with pytest.raises(LeaderboardError, match="truncated|not a leaderboard"):
            survey(tmp_path / "cut.tar")
    with pytest.raises(LeaderboardError, match="There is no backup"):
        survey(tmp_path / "nowhere.tar")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param({"grid": OTHER}, "another grid", id="grid"),
        pytest.param({"account": None}, "put your copy of it to", id="no key"),
        pytest.param({"account": OTHER}, "is the key of d4d4", id="another key"),
        pytest.param({"rules": None}, "knows no leaderboard rules", id="no rules"),
        pytest.param({"rules": rules(account=OTHER)}, "gridllm leaderboard init", id="others' rules"),
        pytest.param({"filled": "The leaderboard's database is not empty"}, "--force", id="filled"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(saved: Path, tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(LeaderboardError, match=text):
        check_ground(survey(saved), saved, ground(Place(tmp_path / "new"), **changes))


def test_room_is_counted_without_what_is_there(
    board: Board, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey(saved)
    weights, rows = sum(found.weights.values()), preparing.ROWS_FACTOR * found.rows
    free = preparing.SPARE_BYTES + rows + weights - 1
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(LeaderboardError, match="make room first"):
        check_ground(found, saved, ground(Place(tmp_path / "new")))
    check_ground(found, saved, ground(board.place))  # the models are there
    check_ground(found, saved, ground(Place(tmp_path / "new"), weights_only=True))
    board.save(tmp_path / "rows.tar", weights=False)
    with pytest.raises(LeaderboardError, match="--no-weights"):
        check_ground(survey(tmp_path / "rows.tar"), saved, ground(Place(tmp_path / "new"), weights_only=True))


def test_looking_for_rows_makes_no_file(board: Board, tmp_path: Path) -> None:
    assert holds_rows(board.place.database_url)
    assert not holds_rows(f"sqlite:///{tmp_path / 'new.sqlite'}") and not (tmp_path / "new.sqlite").exists()
    open_engine(f"sqlite:///{tmp_path / 'empty.sqlite'}").dispose()
    assert not holds_rows(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(LeaderboardError, match="is not there"):
        holds_rows(f"sqlite:///{tmp_path / 'no' / 'new.sqlite'}")


def test_nothing_is_written_where_something_lacks(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "new")
    place.folder.mkdir()
    monkeypatch.setattr(command, "place_at", lambda home, name: (GRID, place))
    monkeypatch.setattr(command, "rules_at", lambda home, name: rules())
    with pytest.raises(LeaderboardError, match="no backup has it: put your copy of it to"):
        command.restore(saved)
    load_or_create(place.key)
    with pytest.raises(LeaderboardError, match="is the key of"):
        command.restore(saved)
    assert [one.name for one in place.folder.iterdir() if one.suffix != ".lock"] == ["leaderboard.key"]


def test_weights_are_put_back_alone(board: Board, saved: Path, open_board: Callable[..., Board]) -> None:
    first, second = board.vault.roots()
    folders = [board.vault.folder(root) for root in (first, second)]
    before, files = board.rows(), board.files()
    assert folders[0] is not None and folders[1] is not None
    tensor = max(folders[0].glob("*.safetensors"), key=lambda one: one.stat().st_size)
    tensor.write_bytes(tensor.read_bytes()[:-1] + b"x")
    shutil.rmtree(folders[1])
    again = restore(saved, GRID, Target(None, board.vault), lambda done, total: None)
    assert again.models == 2 and board.rows() == before and board.files() == files
    assert not any(fault_of(board.vault, root, thorough=True) for root in (first, second))
