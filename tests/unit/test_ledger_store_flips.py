"""One byte of SQLite's file is altered, anywhere: it is found, or it says nothing about the ledger."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gridllm.database.engine import reading
from gridllm.errors import LedgerError
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.store import LedgerStore
from tests.ledger_stores import dump, store_of
from tests.unit.test_ledger_store_check import RULES, engine, store

__all__ = ["engine", "store"]  # fixtures

PAGE = 4096  # bytes, of SQLite
FLIPS = 40


def offsets(size: int) -> list[int]:
    """Half of them anywhere; half where the tables are defined, and in pages' own headers."""
    rng = random.Random(4)
    anywhere = [rng.randrange(size) for _ in range(FLIPS // 2)]
    definitions = [rng.randrange(2 * PAGE) for _ in range(FLIPS // 4)]
    headers = [rng.randrange(size // PAGE) * PAGE + rng.randrange(16) for _ in range(FLIPS // 4)]
    return anywhere + definitions + headers


def everything(engine: Engine) -> list[object]:
    with reading(engine) as connection:
        defined = [tuple(row) for row in connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master")]
    return [defined, dump(engine)]


def found(path: Path, sound: list[object]) -> bool:
    """Whether opening or checking the file fails; if not, it must hold what it should."""
    try:
        opened = open_engine(f"sqlite:///{path}")
    except LedgerError:
        return True
    try:
        store_of(opened).check(RULES)
    except LedgerError:
        return True
    else:
        assert everything(opened) == sound
        return False
    finally:
        opened.dispose()


@pytest.mark.timeout(240)
def test_an_altered_byte_of_the_file_is_found_or_means_nothing(
    store: LedgerStore, engine: Engine, tmp_path: Path
) -> None:
    sound = everything(engine)
    engine.dispose()
    whole = (tmp_path / "ledger.db").read_bytes()
    rng = random.Random(5)
    outcomes = []
    for number, at in enumerate(offsets(len(whole))):
        path = tmp_path / f"altered{number}.db"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        outcomes.append(found(path, sound))
    assert FLIPS // 3 < sum(outcomes) < FLIPS
