"""Opens a database, and its two kinds of transaction.

What ``writing`` committed is on disk, on either database: SQLite runs with ``synchronous=FULL``, PostgreSQL with
``fsync`` and ``synchronous_commit``. ``reading`` sees one state from its first query on, whatever is written meanwhile,
and can change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from gridllm.database.pooled import look_after
from gridllm.database.purpose import Purpose
from gridllm.errors import GridError

LOCK_WAIT_S: Final = 30  # for another process's transaction
CONNECT_S: Final = 10  # for a PostgreSQL server's answer
SILENT_MS: Final = 30_000  # a PostgreSQL server that acknowledges nothing for so long is lost

_POSTGRESQL: Final = "postgresql+psycopg"
_SQLITE: Final = "sqlite"
_DRIVERS: Final = {
    "sqlite": _SQLITE,
    "sqlite+pysqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    _POSTGRESQL: _POSTGRESQL,
}
_SECRETS: Final = ("password", "sslpassword")
_READS: Final = "gridllm_reads"  # the execution option that marks a reader's connection
_PURPOSE: Final = "gridllm_purpose"  # the execution option that says what the database is for


def open_engine(url: str, purpose: Purpose) -> Engine:
    """Open ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``postgresql+psycopg://user@host/database``.

    A SQLite file that does not exist is made. Connects once, so that a wrong URL is known at start.

    Raises:
        GridError: as ``purpose`` has it: the URL is wrong, its driver is missing, or the database cannot be used; says
            no password.
    """
    where = _parse(url, purpose)
    try:
        engine = _sqlite(where, purpose) if where.drivername == _SQLITE else _postgresql(where, purpose)
    except ImportError:
        raise purpose.error(
            f"{shown(where)} needs a driver for PostgreSQL that is not installed; run: pip install 'gridllm[postgres]'"
        ) from None
    try:
        with reading(engine) as connection:
            if where.drivername == _SQLITE:
                _check_wal(connection)
            else:
                _check_fsync(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise purpose.error(_unusable(where, purpose, error)) from None
    except UnicodeDecodeError as error:  # SQLite quotes a name from its file that is no text
        engine.dispose()
        raise damaged(engine, error) from error
    except GridError:
        engine.dispose()
        raise
    return engine


def file_of(url: str, purpose: Purpose) -> Path | None:
    """The file of a SQLite database; None: it is none. Raises GridError: as ``open_engine``, of a wrong URL."""
    where = _parse(url, purpose)
    return Path(where.database or "") if where.drivername == _SQLITE else None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the database and changes nothing.

    Raises:
        GridError: as its purpose has it: the database cannot be reached or is locked for too long.
    """
    options: dict[str, object] = {_READS: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with _named(engine), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def asking(engine: Engine) -> Iterator[Connection]:
    """A connection for queries that need not see the same state: each sees the newest.

    PostgreSQL answers one in a single round trip; beginning and ending a transaction around it takes two more.

    Raises:
        GridError: as ``reading``.
    """
    if engine.dialect.name != "postgresql":
        with reading(engine) as connection:
            yield connection
        return
    with _named(engine), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is on disk when the block ends, or, when the block raises, never was.

    On SQLite it holds the one write lock from its start, so that it never fails for what it has read.

    Raises:
        GridError: as its purpose has it: the database cannot be reached, is full or read-only, or locked for too long.
    """
    with _named(engine), engine.begin() as connection:
        if engine.dialect.name == "postgresql" and purpose_of(engine).one_writer:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": purpose_of(engine).lock})
        yield connection


def purpose_of(engine: Engine) -> Purpose:
    """What the database was opened for."""
    found: Purpose = engine.get_execution_options()[_PURPOSE]
    return found


def damaged(engine: Engine, error: Exception) -> GridError:
    """To be raised where the database's own words make no sense."""
    purpose = purpose_of(engine)
    return purpose.error(
        f"the {purpose.name}'s database {shown(engine.url)} is damaged ({str(error).splitlines()[0]}): {purpose.mend}"
    )


def shown(url: URL) -> str:
    """The URL as people may see it: no password, and of its options only where the server is."""
    where = {name: value for name, value in url.query.items() if name in ("host", "port")}
    return url.set(query=where).render_as_string(hide_password=True)


def _parse(url: str, purpose: Purpose) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their text may hold part of a password
        raise purpose.error(
            f"the {purpose.name}'s URL cannot be read: write {purpose.forms}, with @ : / in a password as %40 %3A %2F"
        ) from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise purpose.error(f"the {purpose.name} cannot be kept in {parsed.drivername!r}: write {purpose.forms}")
    if driver == _SQLITE and (not parsed.database or parsed.database.startswith((":memory:", "file:"))):
        raise purpose.error(
            f"the {purpose.name}'s URL {shown(parsed)} names no file: write sqlite:////path/to/{purpose.name}.db"
        )
    if parsed.host and "@" in parsed.host:
        raise purpose.error(
            f"the {purpose.name}'s URL holds two @ before its host: write the one in the password as %40"
        )
    return parsed.set(drivername=driver)


def _sqlite(url: URL, purpose: Purpose) -> Engine:
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S}, execution_options={_PURPOSE: purpose})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _postgresql(url: URL, purpose: Purpose) -> Engine:
    defaults = {"connect_timeout": CONNECT_S, "tcp_user_timeout": SILENT_MS, "application_name": "gridllm"}
    given = {name: value for name, value in defaults.items() if name not in url.query}
    engine = create_engine(url, connect_args=given, execution_options={_PURPOSE: purpose})
    look_after(engine)
    return engine


def _check_wal(connection: Connection) -> None:
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    if mode != "wal":
        purpose = purpose_of(connection.engine)
        raise purpose.error(
            f"{shown(connection.engine.url)} lies on a file system without what SQLite's write-ahead log needs: "
            f"keep the {purpose.name} on a local disk"
        )


def _check_fsync(connection: Connection) -> None:
    if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
        purpose = purpose_of(connection.engine)
        raise purpose.error(
            f"the server of {shown(connection.engine.url)} runs with fsync = off and would lose {purpose.losing}: "
            "set fsync = on in its postgresql.conf"
        )


@contextmanager
def _named(engine: Engine) -> Iterator[None]:
    """Troubles of the database, not of what was asked of it, become its purpose's own error."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        purpose = purpose_of(engine)
        raise purpose.error(_unusable(engine.url, purpose, error)) from error


def _unusable(url: URL, purpose: Purpose, error: SQLAlchemyError) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    for secret in (url.password, *(url.query.get(name) for name in _SECRETS)):
        if isinstance(secret, str) and secret:
            reason = reason.replace(secret, "***")
    if "locked" in reason:
        hint = f"another program has written to it for {LOCK_WAIT_S} s; wait for it, or stop it"
    elif url.drivername == _SQLITE:
        hint = "name a file of SQLite in a folder that exists and that you may write, on a disk with room"
    else:
        hint = "check that the server runs, and the URL's host, user, password and database"
    return f"the {purpose.name}'s database {shown(url)} cannot be used ({reason}): {hint}"
