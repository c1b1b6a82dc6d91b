"""Databases for tests of the ledger: SQLite files, and a real PostgreSQL server that starts when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer

LONG = {
    "test_admission",
    "test_admitted_serve",
    "test_bench",
    "test_cheaters",
    "test_demo",
    "test_failures",
    "test_generate",
    "test_leaderboard_grading",
    "test_ledger_attacks",
    "test_ledger_store_postgres",
    "test_readme_leaderboard",
    "test_serve",
    "test_uncertified",
}
"""Files that take a minute or more beside others. They begin first, so that no worker waits for another at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Shared by all who only want databases; a test that kills its server starts one of its own."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the test runs once with each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.database()
