"""Migrations of the ledger's database, on SQLite and on a real PostgreSQL: whole, once, and as the schema says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table, inspect, text

from gridllm.database.engine import reading, writing
from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import MIGRATIONS, migrate
from gridllm.ledger.store.schema import metadata

MIGRATION = """
from alembic import op
import sqlalchemy as sa
import time

revision = "{number:04}"
down_revision = {before}

def upgrade():
{body}
"""
TABLE = '    op.create_table("step{number}", sa.Column("id", sa.Integer, primary_key=True))\n'
PROCESS = """
import sys
from pathlib import Path
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
print(migrate(open_engine(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = open_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Migrations of the test's own, run by our env.py; a folder may be named oddly."""
    made = tmp_path / "100% own migrations"
    (made / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", made)
    return made


def add_step(folder: Path, number: int, body: str = "") -> None:
    """Migration ``number`` makes table ``step<number>``, after what ``body`` does."""
    before = repr(f"{number - 1:04}") if number > 1 else "None"
    whole = MIGRATION.format(number=number, before=before, body=body + TABLE.format(number=number))
    (folder / "versions" / f"v{number:04}_step.py").write_text(whole)


def tables(engine: Engine) -> set[str]:
    with reading(engine) as connection:
        return set(inspect(connection).get_table_names())


def differences(engine: Engine, wanted: MetaData) -> list[object]:
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), wanted))


def test_the_migrated_database_is_what_the_schema_says_and_stays_so(engine: Engine) -> None:
    version = migrate(engine)
    assert not differences(engine, metadata), "add a migration: see gridllm/ledger/store/migrations/__init__.py"
    made = tables(engine)
    assert made == {"alembic_version", *metadata.tables}
    assert migrate(engine) == version
    assert tables(engine) == made
    more = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(more)
    Table("forgotten", more, Column("id", Integer, primary_key=True))
    assert differences(engine, more), "the comparison sees a table without a migration"


def test_only_what_is_missing_runs(engine: Engine, folder: Path) -> None:
    add_step(folder, 1)
    assert migrate(engine, folder) == "0001"
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO step1 VALUES (1)"))
    add_step(folder, 2)
    assert migrate(engine, folder) == "0002"
    assert tables(engine) == {"alembic_version", "step1", "step2"}
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM step1")).scalar() == 1


def test_a_migration_that_fails_leaves_the_database_as_it_was(engine: Engine, folder: Path) -> None:
    add_step(folder, 1)
    migrate(engine, folder)
    add_step(folder, 2)
    add_step(folder, 3, body='    op.execute("INSERT INTO nowhere VALUES (1)")\n')
    with pytest.raises(LedgerError, match=r"version 0003 and is unchanged \(.*nowhere"):
        migrate(engine, folder)
    assert tables(engine) == {"alembic_version", "step1"}
    add_step(folder, 3)
    assert migrate(engine, folder) == "0003"


def test_a_database_of_newer_code_is_refused_untouched(engine: Engine, folder: Path) -> None:
    add_step(folder, 1)
    add_step(folder, 2)
    migrate(engine, folder)
    (folder / "versions" / "v0002_step.py").unlink()
    with pytest.raises(LedgerError, match="is at version 0002, and this GridLLM knows versions up to 0001"):
        migrate(engine, folder)
    assert tables(engine) == {"alembic_version", "step1", "step2"}


def test_processes_that_start_at_once_migrate_once(database_url: str, folder: Path) -> None:
    add_step(folder, 1, body="    time.sleep(1)\n")  # without a lock, all would be in here
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, database_url, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert said == ["0001"] * 3
    engine = open_engine(database_url)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0001"]
    engine.dispose()


def test_a_table_made_anew_keeps_the_rows_that_refer_to_it(engine: Engine, folder: Path) -> None:
    child = (
        '    op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True))\n'
        '    op.create_table("child", sa.Column("parent", sa.Integer,'
        ' sa.ForeignKey("parent.id", name="fk_child", ondelete="CASCADE")))\n'
    )
    add_step(folder, 1, body=child)
    migrate(engine, folder)
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO parent VALUES (1)"))
        connection.execute(text("INSERT INTO child VALUES (1)"))
    anew = "always" if engine.name == "sqlite" else "never"
    altered = (
        f'    with op.batch_alter_table("parent", recreate="{anew}") as batch:\n'
        '        batch.add_column(sa.Column("name", sa.Text))\n'
    )
    add_step(folder, 2, body=altered)
    migrate(engine, folder)
    with writing(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM child")).scalar() == 1
        if engine.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
