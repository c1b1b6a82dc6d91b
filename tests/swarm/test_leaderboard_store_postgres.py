"""The leaderboard's store on a real PostgreSQL, its migrations on both, and a writer that is killed in the midst."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from gridllm.database.engine import reading
from gridllm.errors import LeaderboardError
from gridllm.ledger.store import engine as ledger
from gridllm.ledger.store.migrate import migrate as migrate_ledger
from gridllm.ledger.store.schema import metadata as ledger_metadata
from gridllm_leaderboard.backup.restoring import Target, restore
from gridllm_leaderboard.backup.saving import save
from gridllm_leaderboard.store.engine import LEADERBOARD as PURPOSE
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.schema import metadata
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.vault.vault import Vault
from tests.leaderboard_seasons import GRID, LEADERBOARD, digest, emptied, submitted, whole_round
from tests.postgres import PostgresServer
from tests.unit.test_leaderboard_annulled_store import *  # noqa: F403
from tests.unit.test_leaderboard_annulled_store import check_brought_up
from tests.unit.test_leaderboard_store import *  # noqa: F403

WRITER = """
import sys
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.leaderboard_seasons import submitted, whole_round
store = LeaderboardStore(open_engine(sys.argv[1]))
number, champion = int(sys.argv[2]), sys.argv[3] or None
while True:
    with store.writing() as batch:
        champion = whole_round(batch, number, [submitted(10 * number + place) for place in range(3)], champion)
    print(number, champion, flush=True)
    number += 1
"""


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer) -> Iterator[Engine]:
    made = open_engine(postgres_server.database())
    yield made
    made.dispose()


@pytest.fixture
def engine(migrated: Engine) -> Engine:
    """In place of the SQLite file of the tests above."""
    emptied(migrated)
    return migrated


def test_the_migrated_database_is_what_the_schema_says_and_a_ledger_has_room_beside_it(database_url: str) -> None:
    engine, books = open_engine(database_url), ledger.open_engine(database_url)
    migrate_ledger(books)
    open_engine(database_url).dispose()  # nothing is left to do
    tables = {*metadata.tables, *ledger_metadata.tables, "alembic_version", PURPOSE.version_table}
    with reading(engine) as connection:
        assert set(inspect(connection).get_table_names()) == tables
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _parents: kind != "table" or name in metadata.tables,
        }
        assert not compare_metadata(MigrationContext.configure(connection, opts=options), metadata), "add a migration"
    engine.dispose()
    books.dispose()


def test_an_older_database_is_brought_up(database_url: str) -> None:
    check_brought_up(database_url)


def test_troubles_are_the_leaderboards_own(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match=r"the leaderboard's database .* a folder that exists"):
        open_engine(f"sqlite:///{tmp_path}/nowhere/leaderboard.db")
    with pytest.raises(LeaderboardError, match="the leaderboard cannot be kept in 'mysql'"):
        open_engine("mysql://somewhere/leaderboard")


def test_a_backup_of_sqlite_comes_back_in_postgresql_and_from_there(store: LeaderboardStore, tmp_path: Path) -> None:
    def quiet(done: int, total: int) -> None:
        pass

    vaults = [Vault(tmp_path / name) for name in ("first", "second")]
    stores = [LeaderboardStore(open_engine(f"sqlite:///{tmp_path / name}.db")) for name in ("a", "b")]
    with stores[0].writing() as batch:
        whole_round(batch, 2, [submitted(3), submitted(4)], whole_round(batch, 1, [submitted(1), submitted(2)]))
        batch.spend("facts", [digest(1)])
        batch.paid(submitted(1).id, digest("transfer"))
    account = LEADERBOARD.public_key.hex()
    saved = save(tmp_path / "one.tar", stores[0], None, GRID, account, quiet)
    restored = restore(tmp_path / "one.tar", GRID, Target(store, vaults[0]), quiet)
    assert restored == saved and (saved.submissions, saved.rounds) == (4, 2)
    save(tmp_path / "two.tar", store, None, GRID, account, quiet)
    restore(tmp_path / "two.tar", GRID, Target(stores[1], vaults[1]), quiet)
    copies = []
    for one in (*stores, store):
        with one.copied() as (_, pages):
            copies.append(list(pages))
    assert copies[0] == copies[1] == copies[2] and sum(len(page.rows) for page in copies[0]) == 19
    for one in stores:
        one.close()


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_a_writer_that_is_killed_leaves_whole_rounds_and_loses_none_it_spoke_of(database_url: str, times: int) -> None:
    chance = random.Random(times)
    last, champion = 0, ""
    for _ in range(times):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, database_url, str(last + 1), champion], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        said = writer.stdout.readline().split()  # it is at it
        time.sleep(chance.uniform(0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        rest = [line.split() for line in writer.stdout.read().splitlines() if line.count(" ") == 1]
        writer.stdout.close()
        writer.wait(10)
        spoken = int((rest or [said])[-1][0])
        engine = open_engine(database_url)
        with LeaderboardStore(engine).reading() as view:
            last = view.last_round()
            assert last - spoken in (0, 1), "what it told of is there, and at most one more"
            assert view.open_round() is None and view.count() == 3 * last
            assert {entry.state for entry in view.entries(limit=1000)} == {"graded"}
            assert len(view.grades(last)) == (4 if last > 1 else 3) and len(view.marks()) == 3 * last
            champion = view.champion() or ""
        engine.dispose()
