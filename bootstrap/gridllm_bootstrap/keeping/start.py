"""The books of a grid, opened beside its first peer: database, desk, copies of other keepers' logs, and answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gridllm.admission.cards import keep_card
from gridllm.tasks import end, racing

if TYPE_CHECKING:
    from gridllm.admission.manifests import Manifests
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.identity.keys import Identity
    from gridllm.ledger.store.store import LedgerStore
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.keeping.desk import Keeper
    from gridllm_bootstrap.keeping.witness import Discord

LOOK_S: Final = 3.0  # at most, for what other keepers hold of this one's log, before anything is added to it
SWITCH_S: Final = 0.0005  # a thread has Python for so long when others wait; Python's own 5 ms would delay every query


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """Whose key, and where the books lie."""

    identity: Identity  # of a maintainer that the charter lets keep books
    url: str  # of the database (store.engine.open_engine)


@dataclass(frozen=True, slots=True)
class Kept:
    """Books that are open."""

    keeper: Keeper
    accounts: int  # when they were opened
    statements: int  # of all keepers' logs


def bookkeeping(signed: SignedCharter, maintainer: Identity, url: str) -> Bookkeeping | None:
    """What the maintainer is to keep; None: the grid has no economy, or lets others keep its books."""
    keeps = signed.charter.economy.required and maintainer.public_key.hex() in signed.charter.keepers
    return Bookkeeping(maintainer, url) if keeps else None


@asynccontextmanager
async def open_books(
    books: Bookkeeping,
    swarm: Swarm,
    signed: SignedCharter,
    board: NoticeBoard,
    manifests: Manifests,
    tell: Callable[[Discord], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Kept]:
    """Keep the grid's books until the block is left; what was acknowledged by then is on disk.

    Args:
        manifests: of all models that the grid serves or served; may grow.
        stop: ends the wait for what other keepers hold of this one's log; nothing is answered then.

    Raises:
        KeptElsewhere: another peer keeps books with this key.
        LedgerError: the database cannot be used, or holds other books than this keeper signed.
    """
    from gridllm.ledger.keepers import Keepers
    from gridllm.ledger.paper import Rulebook
    from gridllm_bootstrap.keeping.alone import check_alone
    from gridllm_bootstrap.keeping.calls import Calls
    from gridllm_bootstrap.keeping.desk import Keeper
    from gridllm_bootstrap.keeping.mirroring import Mirror

    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
    stop = stop or asyncio.Event()
    async with AsyncExitStack() as stack:
        await check_alone(swarm, signed, books.identity.public_key.hex())
        store, close = await asyncio.to_thread(_open_store, books.url, signed.charter.economy.starter)
        stack.push_async_callback(asyncio.to_thread, close)
        rulebook = Rulebook(signed, manifests.blocks)
        keeper = await stack.enter_async_context(Keeper(store, rulebook, books.identity, board))
        mirror = await stack.enter_async_context(
            Mirror(keeper, Keepers(swarm, signed), tell=tell, learn=partial(manifests.find, swarm))
        )
        await _unless(stop, mirror.looked(LOOK_S))
        if not stop.is_set():
            await check_alone(swarm, signed, keeper.log)  # by now more of the grid was found
            await Calls(keeper, swarm, vouched=lambda: mirror.vouched, hear=mirror.hear).serve()
            card = asyncio.create_task(keep_card(swarm, signed.grid, books.identity, office="keepers"))
            stack.push_async_callback(end, card)
        yield Kept(keeper, *await keeper.read(lambda store: store.extent()))


def _open_store(url: str, starter: int) -> tuple[LedgerStore, Callable[[], None]]:
    """The store, and what closes it."""
    from gridllm.ledger.store.engine import open_engine
    from gridllm.ledger.store.migrate import migrate
    from gridllm.ledger.store.store import LedgerStore

    engine = open_engine(url)
    try:
        migrate(engine)
    except Exception:
        engine.dispose()
        raise
    return LedgerStore(engine, starter=starter), engine.dispose


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do it, or leave off when the stop comes. Raises what it raises."""
    async with racing(work, stop.wait()) as (working, _):
        if working.done():
            working.result()
