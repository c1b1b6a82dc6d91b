"""``gridllm leaderboard annul`` on a database that nobody runs a leaderboard on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridllm.cli.main import app
from gridllm.errors import GridError, LeaderboardError, UsageError
from gridllm_leaderboard.cli import annul as command
from gridllm_leaderboard.cli.annul import annul
from gridllm_leaderboard.place import Place
from gridllm_leaderboard.statements import Annulment, verify_document
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.leaderboard_seasons import GRID, LEADERBOARD, open_round, submitted, whole_round


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaderboardStore]:
    """One judged round and an open one, where the command looks."""
    place = Place(tmp_path)
    made = LeaderboardStore(open_engine(place.database_url))
    with made.writing() as batch:
        champion = whole_round(batch, 1, [submitted(1)])
        open_round(batch, 2, [submitted(2), submitted(3)], champion)
    monkeypatch.setattr(command, "place_at", lambda home, name: (name or GRID, place))
    monkeypatch.setattr("gridllm.identity.keys.load", lambda path: LEADERBOARD)
    yield made
    made.close()


def test_an_open_round_is_void_afterwards(store: LeaderboardStore, capsys: pytest.CaptureFixture[str]) -> None:
    annul(2, "  the keeper is lost ", as_json=True)
    said = json.loads(capsys.readouterr().out)
    ids = sorted(submitted(number).id for number in (2, 3))
    assert said == {"round": 2, "why": "the keeper is lost", "drawn": True, "submissions": ids}
    with store.reading() as view:
        (found,) = view.annulled()
        document = verify_document(found.annulment_raw or b"", Annulment, GRID, LEADERBOARD.public_key.hex())
        assert document.reason == "the keeper is lost" and view.open_round() is None
        assert sorted(one.id for one in view.in_state("queued")) == ids
    with pytest.raises(LeaderboardError, match="Round 2 is annulled already: the keeper is lost"):
        annul(2, "again", yes=True)


@pytest.mark.parametrize(
    ("number", "why", "name", "says"),
    [
        pytest.param(1, "x", None, "Round 1 is judged, and a verdict is not taken back", id="judged"),
        pytest.param(3, "x", None, "There is no round 3; the last is 2", id="unknown"),
        pytest.param(2, "  ", None, "a reason of 1 to 500 characters", id="no reason"),
        pytest.param(2, "x" * 501, None, "a reason of 1 to 500 characters", id="a novel"),
        pytest.param(2, "x", "b2" * 32, "another grid's leaderboard", id="another grid"),
    ],
)
def test_what_cannot_be_annulled(store: LeaderboardStore, number: int, why: str, name: str | None, says: str) -> None:
    with pytest.raises(GridError, match=says):
        annul(number, why, yes=True, name=name)
    with store.reading() as view:
        assert view.annulled() == [] and view.open_round() is not None


def test_without_a_database_there_is_nothing_to_annul(
    tmp_path: Path, store: LeaderboardStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "place_at", lambda home, name: (GRID, Place(tmp_path / "empty")))
    with pytest.raises(UsageError, match="no leaderboard's database"):
        annul(2, "x", yes=True)
    annul(2, "x", yes=True, database=Place(tmp_path).database_url)
    assert "Annulled: round 2. Queued again: 2 submissions." in " ".join(capsys.readouterr().out.split())
    with store.reading() as view:
        assert view.count_annulled() == 1


def test_a_reason_must_be_given() -> None:
    done = CliRunner().invoke(app, ["leaderboard", "annul", "2"])
    assert done.exit_code == 2 and "--why" in done.output
