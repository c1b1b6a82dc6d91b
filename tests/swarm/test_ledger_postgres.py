"""The ledger's engine beside a real PostgreSQL server: durable whatever its settings, named errors when it dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import InternalError

from gridllm.database.engine import reading, writing
from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from tests.postgres import PostgresServer


def rows(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT number FROM kept ORDER BY number")).scalars())


def put(engine: Engine, number: int) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO kept VALUES (:number)"), {"number": number})


def make_table(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE kept (number integer PRIMARY KEY)"))


def test_commits_are_written_first_even_where_the_database_would_not(postgres_server: PostgresServer) -> None:
    url = postgres_server.database()
    name = url.partition("@/")[2].partition("?")[0]
    engine = open_engine(url)
    with writing(engine) as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    engine.dispose()
    engine = open_engine(url)
    with reading(engine) as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    engine.dispose()


def test_a_server_without_fsync_is_refused(tmp_path: Path) -> None:
    with PostgresServer(tmp_path, fsync="off") as server, pytest.raises(LedgerError, match="set fsync = on"):
        open_engine(server.database())


def test_a_reader_sees_one_state_and_writes_nothing(postgres_server: PostgresServer) -> None:
    engine = open_engine(postgres_server.database())
    make_table(engine)
    with reading(engine) as connection:
        count = text("SELECT count(*) FROM kept")
        assert connection.execute(count).scalar() == 0
        put(engine, 1)
        assert connection.execute(count).scalar() == 0
    assert rows(engine) == [1]
    with pytest.raises(InternalError, match="read-only"), reading(engine) as connection:
        connection.execute(text("INSERT INTO kept VALUES (2)"))
    put(engine, 2)
    assert rows(engine) == [1, 2]
    engine.dispose()


def test_a_database_that_is_not_there_is_named_without_the_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.database().replace("postgres@/", "postgres:geheim@/no_such_")
    with pytest.raises(LedgerError, match='"no_such_test[0-9]+" does not exist') as raised:
        open_engine(url)
    assert "geheim" not in str(raised.value)


def test_a_server_killed_and_started_again_is_used_on_with_every_commit(tmp_path: Path) -> None:
    with PostgresServer(tmp_path) as server:
        engine = open_engine(server.database())
        migrate(engine)
        make_table(engine)
        put(engine, 1)

        def write_while_it_dies() -> None:
            with writing(engine) as connection:
                connection.execute(text("INSERT INTO kept VALUES (2)"))
                server.kill()

        with pytest.raises(LedgerError, match="check that the server runs"):
            write_while_it_dies()
        with pytest.raises(LedgerError, match="check that the server runs"):
            rows(engine)
        server.start()
        put(engine, 3)
        assert rows(engine) == [1, 3]
        engine.dispose()
