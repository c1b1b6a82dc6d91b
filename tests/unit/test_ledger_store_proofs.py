"""Roots and proofs from the store verify, at every size that a log had. ``tests/swarm`` runs the same on PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.log.proof import verify_consistency, verify_inclusion
from gridllm.ledger.log.tree import EMPTY_ROOT
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.merkle import leaf_digest
from tests.ledger_stores import append_all, store_of
from tests.ledger_worlds import KEEPER
from tests.ledgers import NOW, Scribe
from tests.unit.naive_log import mth

SCRIBE = Scribe()
SIZE = 600  # more than two tiles


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(made)
    yield made
    made.dispose()


def test_roots_and_proofs_verify_at_every_size(engine: Engine) -> None:
    rng = random.Random(3)
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    vouchers = [SCRIBE.voucher(payer, node, 0, count + 1) for count in range(SIZE)]
    leaves = [leaf_digest(one.raw) for one in vouchers]
    roots, size = {}, 0
    while size < SIZE:
        step = rng.choice([1, 7, 130])
        append_all(store_of(engine), KEEPER, vouchers[size : size + step])
        size = min(size + step, SIZE)
        roots[size] = store_of(engine).root(KEEPER, size)
    store = store_of(engine)
    assert store.root(KEEPER, 0) == EMPTY_ROOT
    for at, root in roots.items():
        assert store.root(KEEPER, at) == root == mth(leaves[:at])
        index = rng.randrange(at)
        verify_inclusion(root, at, index, leaves[index], store.inclusion(KEEPER, index, at))
        second = rng.choice([size for size in roots if size >= at])
        verify_consistency(at, second, root, roots[second], store.consistency(KEEPER, at, second))
    with pytest.raises(LedgerError):
        store.root(KEEPER, SIZE + 1)
    with pytest.raises(LedgerError, match="holds nothing of the log"):
        store.inclusion("ab" * 32, 0, 1)
    with store.write(KEEPER, NOW) as batch:
        assert batch.root() == roots[SIZE]
