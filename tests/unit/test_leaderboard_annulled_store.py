"""Rounds that are void, in the store: what comes back, what stays, and what nothing can undo."""

from __future__ import annotations

import tarfile
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from gridllm.database.engine import reading, writing
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.backup.archive import Writer
from gridllm_leaderboard.backup.restoring import Target, restore
from gridllm_leaderboard.backup.saving import save
from gridllm_leaderboard.statements import Annulment, Lock, id_of, sign
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.vault.vault import Vault
from tests.leaderboard_seasons import (
    GRID,
    LEADERBOARD,
    NOW,
    digest,
    drawn,
    graded,
    judged,
    locked,
    mark,
    open_round,
    reign,
    submitted,
    whole_round,
    withdrawn,
)
from tests.unit.test_leaderboard_store import engine, store  # noqa: F401  # fixtures

ACCOUNT = LEADERBOARD.public_key.hex()


def annulled(lock: Lock, reason: str = "the keeper is lost", issued: int = NOW + 9) -> bytes:
    """The round is void."""
    return sign(
        Annulment(grid=GRID, round=lock.round, lock=id_of(lock), reason=reason, issued=issued),
        LEADERBOARD,
    )


def test_a_round_that_is_void_gives_its_submissions_back(store: LeaderboardStore) -> None:  # noqa: F811
    entries = [submitted(number) for number in range(4)]
    with store.writing() as batch:
        champion = whole_round(batch, 1, entries[:1])
        batch.enter(entries[1])
        batch.paid(entries[1].id, digest("transfer"))
        open_round(batch, 2, entries[1:3], champion)
        batch.spend("facts", [digest(1)])
        lock = batch.rounds()[0].lock
        assert batch.annul(2, annulled(lock)) and not batch.annul(2, annulled(lock))
        with pytest.raises(LeaderboardError, match="Round 2 is annulled already, by another document"):
            batch.annul(2, annulled(lock, "another reason"))
    with store.reading() as view:
        assert view.open_round() is None and (view.last_round(), view.champion()) == (2, champion)
        assert [one.id for one in view.in_state("queued")] == [one.id for one in entries[1:3]]
        paid = view.entry(entries[1].id)
        assert paid is not None and paid.paid and paid.why == "Round 2 was annulled: the keeper is lost"
        assert paid.round == 0  # as before
        assert view.spent("facts") == {digest(1)} and {one.submission for one in view.marks()} == {champion}
        assert [one.number for one in view.annulled()] == [2] and view.count_annulled() == 1
    with store.writing() as batch:
        batch.withdraw(entries[1].id, withdrawn(entries[1]))
        again, lock = locked(3, [entries[2].id], champion)
        assert batch.lock(3, again, lock.submissions)
        found = batch.entry(entries[2].id)
        assert found is not None and (found.state, found.round, found.why) == ("locked", 3, "")


def test_nothing_comes_into_a_void_round_any_more(store: LeaderboardStore) -> None:  # noqa: F811
    entry = submitted(1)
    with store.writing() as batch:
        batch.enter(entry)
        raw, lock = locked(1, [entry.id])
        batch.lock(1, raw, lock.submissions)
        with pytest.raises(LeaderboardError, match="not that of round 1's lock"):
            batch.annul(1, annulled(locked(1, [entry.id], issued=1)[1]))
        with pytest.raises(LeaderboardError, match="There is no round 2"):
            batch.annul(2, annulled(lock))
        batch.annul(1, annulled(lock))
        with pytest.raises(LeaderboardError, match=r"Round 1 was annulled \(the keeper is lost\)"):
            batch.draw(1, drawn(lock)[0])
    with store.writing() as batch:
        draw = open_round(batch, 2, [entry])
        batch.annul(2, annulled(batch.rounds()[0].lock))
        raw, grade = graded(draw, entry.id)
        with pytest.raises(LeaderboardError, match="its grades count for nothing"):
            batch.grade(id_of(grade), raw, grade)
        raw, verdict = judged(draw, entry.id, changed=True)
        with pytest.raises(LeaderboardError, match="Round 2 was annulled"):
            batch.judge(2, raw, verdict, [mark(entry.id, 2)], reign(entry.id, 2))


def test_a_verdict_is_not_taken_back(store: LeaderboardStore) -> None:  # noqa: F811
    with store.writing() as batch:
        whole_round(batch, 1, [submitted(1)])
        with pytest.raises(LeaderboardError, match="Round 1 is judged"):
            batch.annul(1, annulled(batch.rounds()[0].lock))


def test_a_withdrawn_submission_stays_withdrawn(store: LeaderboardStore) -> None:  # noqa: F811
    entries = [submitted(number) for number in range(2)]
    with store.writing() as batch:
        open_round(batch, 1, entries)
        batch.withdraw(entries[0].id, withdrawn(entries[0]))
        batch.annul(1, annulled(batch.rounds()[0].lock))
        assert batch.states([one.id for one in entries]) == {entries[0].id: "withdrawn", entries[1].id: "queued"}


def test_a_database_of_before_is_brought_up(tmp_path: Path) -> None:
    check_brought_up(f"sqlite:///{tmp_path / 'old.db'}")


def check_brought_up(url: str) -> None:
    """The open round of an older GridLLM's database can be annulled."""
    first = open_engine(url)
    with LeaderboardStore(first).writing() as batch:
        open_round(batch, 1, [submitted(1)])
    with writing(first) as connection:
        connection.execute(text("ALTER TABLE rounds DROP COLUMN annulment"))
        connection.execute(text("UPDATE leaderboard_version SET version_num = '0001'"))
    first.dispose()
    second = open_engine(url)
    with LeaderboardStore(second).writing() as batch:
        found = batch.open_round()
        assert found is not None and found.annulment is None
        assert batch.annul(1, annulled(found.lock))
    with reading(second) as connection:
        assert connection.execute(text("SELECT version_num FROM leaderboard_version")).scalar() == "0002"
    second.dispose()


def quiet(done: int, total: int) -> None:
    """Nobody is told."""


def test_annulments_are_backed_up_and_checked(tmp_path: Path, store: LeaderboardStore) -> None:  # noqa: F811
    with store.writing() as batch:
        draw = open_round(batch, 1, [submitted(1), submitted(2)])
        right = annulled(batch.rounds()[0].lock)
        batch.annul(1, right)
    saved = save(tmp_path / "one.tar", store, None, GRID, ACCOUNT, quiet)
    fresh = open_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    other = LeaderboardStore(fresh)
    assert restore(tmp_path / "one.tar", GRID, Target(other, Vault(tmp_path / "vault")), quiet).rounds == saved.rounds
    with store.reading() as view, other.reading() as copy:
        assert view.annulled() == copy.annulled()
    wrong = (
        ({"annulment": annulled(locked(1, [digest("no")])[1])}, "its annulment is of another lock"),
        ({"annulment": right, "verdict": judged(draw, None)[0], "marks": b"\x90"}, "it is annulled and judged"),
    )
    for values, says in wrong:
        with writing(fresh) as connection:
            spelled = ", ".join(f"{name} = :{name}" for name in values)
            connection.execute(text(f"UPDATE rounds SET {spelled}"), values)  # noqa: S608  # our own words
        with pytest.raises(LeaderboardError, match=says):
            save(tmp_path / "two.tar", other, None, GRID, ACCOUNT, quiet)
    fresh.dispose()


def test_a_backup_of_before_comes_back(tmp_path: Path, store: LeaderboardStore) -> None:  # noqa: F811
    """It was written by a GridLLM whose rounds had no such column."""
    with store.writing() as batch:
        whole_round(batch, 1, [submitted(1)])
    save(tmp_path / "new.tar", store, None, GRID, ACCOUNT, quiet)
    with tarfile.open(tmp_path / "new.tar") as tar, (tmp_path / "old.tar").open("wb") as file:
        old = Writer(file)
        for member in tar.getmembers()[:-1]:
            source = tar.extractfile(member)
            raw = b"" if source is None else source.read()
            if member.name.startswith("rows/rounds/"):
                rows = msgspec.msgpack.decode(raw)
                raw = msgspec.msgpack.encode([{k: v for k, v in row.items() if k != "annulment"} for row in rows])
            old.add(member.name, raw)
        old.end([])
    assert b"annulment" not in (tmp_path / "old.tar").read_bytes()
    fresh = open_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    other = LeaderboardStore(fresh)
    restore(tmp_path / "old.tar", GRID, Target(other, Vault(tmp_path / "vault")), quiet)
    with other.reading() as view:
        assert view.annulled() == [] and view.last_round() == 1 and view.open_round() is None
    fresh.dispose()
