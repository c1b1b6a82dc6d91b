"""The store's tests once more, with a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from tests.ledger_stores import emptied
from tests.postgres import PostgresServer
from tests.unit.test_ledger_store import *  # noqa: F403
from tests.unit.test_ledger_store_check import *  # noqa: F403
from tests.unit.test_ledger_store_proofs import *  # noqa: F403

pytestmark = pytest.mark.timeout(600)  # two minutes beside a load of twenty-five


@pytest.fixture(scope="module")
def migrated(postgres_server: PostgresServer) -> Iterator[Engine]:
    made = open_engine(postgres_server.database())
    migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def engine(migrated: Engine) -> Engine:
    """In place of the SQLite file of the tests above."""
    emptied(migrated)
    return migrated
