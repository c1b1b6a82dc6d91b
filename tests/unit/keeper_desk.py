"""A keeper over a real SQLite file, in the test's own process: alone, or on an in-memory network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from gridllm.charter.board import NoticeBoard
from gridllm.identity.keys import Identity
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Delegation
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from gridllm_bootstrap.keeping.desk import Keeper
from tests.charters import ENTRY, MAINTAINERS
from tests.ledgers import NOW, SESSION, STARTER, Scribe, hex_of

IDENTITY = MAINTAINERS[0]


@contextmanager
def opened(path: Path) -> Iterator[LedgerStore]:
    """The store at ``path``."""
    engine = open_engine(f"sqlite:///{path}")
    try:
        migrate(engine)
        yield LedgerStore(engine, starter=STARTER)
    finally:
        engine.dispose()


@asynccontextmanager
async def desk(path: Path, scribe: Scribe, **options: Any) -> AsyncIterator[Keeper]:
    """The first maintainer's keeper, at ``NOW``."""
    with opened(path) as store:
        board = options.pop("board", None) or NoticeBoard(scribe.signed)
        options = {"clock": lambda: float(NOW)} | options
        async with Keeper(options.pop("store", store), scribe.rules, IDENTITY, board, **options) as keeper:
            yield keeper


def wish(node: Identity, micro: int, session: str = SESSION) -> Wish:
    """An escrow for the whole model at ``node``."""
    return Wish(session, hex_of(node), ENTRY.root, 0, ENTRY.blocks, micro)


def delegation(scribe: Scribe, account: Identity, client: Identity, **changes: Any) -> bytes:
    """``client``'s connection acts for ``account``."""
    fields: dict[str, Any] = {"grid": scribe.signed.grid, "account": hex_of(account), "client": client.peer}
    signer = changes.pop("signer", account)
    return sign(Delegation(**fields | {"issued": NOW, "expires": NOW + 600} | changes), signer)
