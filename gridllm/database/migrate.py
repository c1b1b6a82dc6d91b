"""Brings a database to the tables this code works with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from gridllm.database.engine import LOCK_WAIT_S, damaged, purpose_of, reading, shown

_ALEMBIC: Final = threading.Lock()  # its ``context`` and ``op`` are globals of the process


def migrate(engine: Engine, migrations: Path) -> str:
    """Apply the migrations that the database lacks, all or none of them: the version it is at then.

    Processes that start at once wait for each other; only the first migrates.

    Raises:
        GridError: as its purpose has it: a newer GridLLM wrote the database, it is damaged, or a migration fails.
    """
    purpose = purpose_of(engine)
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    if head is None:
        raise purpose.error(f"{migrations} holds no migrations: install GridLLM again")
    try:
        with reading(engine) as connection:
            if _version(connection) == head:
                return head
        with _ALEMBIC, _alone(engine) as connection:
            _refuse_newer(connection, script, head)
            config.attributes.update(connection=connection, version_table=purpose.version_table)
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise purpose.error(
            f"the {purpose.name}'s database {shown(engine.url)} could not be brought to version {head} and is "
            f"unchanged ({reason}): stop what else uses it, and start again"
        ) from error
    except (UnicodeDecodeError, CommandError) as error:  # SQLite's own words are no text; several versions at once
        raise damaged(engine, error) from error
    return head


def _version(connection: Connection) -> str | None:
    """The migration the database is at; None: it has none yet."""
    table = purpose_of(connection.engine).version_table
    return MigrationContext.configure(connection, opts={"version_table": table}).get_current_revision()


def _refuse_newer(connection: Connection, script: ScriptDirectory, head: str) -> None:
    """Versions of GridLLM know every migration up to their own; one they do not know is a later one."""
    version = _version(connection)
    if version is not None and version not in {revision.revision for revision in script.walk_revisions()}:
        purpose = purpose_of(connection.engine)
        raise purpose.error(
            f"the {purpose.name}'s database {shown(connection.engine.url)} is at version {version}, and this GridLLM "
            f"knows versions up to {head}: install the GridLLM that wrote it, or a newer one"
        )


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction that others who want to migrate wait for."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            with _without_foreign_keys(connection):
                yield connection
        else:
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": purpose_of(engine).lock})
                yield connection


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """SQLite alters a table by making it anew; with its foreign keys on, dropping the old one empties others."""
    connection.detach()  # closed afterwards, not handed to others without its foreign keys
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys = OFF")  # without effect inside a transaction, so before it
    cursor.close()
    with connection.begin():  # holds the file's one write lock
        yield
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise purpose_of(connection.engine).error(
                f"a migration left rows of {broken[0]} that refer to nothing; nothing was changed"
            )
