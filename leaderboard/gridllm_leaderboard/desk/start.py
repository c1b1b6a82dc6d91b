"""The leaderboard, opened: books, weights, the ledger's keepers, answers, and what it does by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gridllm_leaderboard.desk.desk import Desk, Tell

if TYPE_CHECKING:
    from pathlib import Path

    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.contest import Rules
    from gridllm.charter.document import SignedCharter
    from gridllm.identity.keys import Identity
    from gridllm.swarm.interface import Swarm
    from gridllm_leaderboard.desk.arrivals import Check
    from gridllm_leaderboard.tasks import Task

LIST_ABOVE_BYTES: Final = 8 * 2**30  # of weights: a grader's machine may not hold it


@dataclass(frozen=True, slots=True)
class Office:
    """Whose keys, and what the flags say."""

    identity: Identity  # of the leaderboard; the swarm's, too
    maintainer: Identity
    url: str  # of the database
    vault: Path
    drafts: Path  # folder for what other maintainers have to sign, too
    tasks: Mapping[str, Task] = field(default_factory=dict)
    list_above: int = LIST_ABOVE_BYTES  # weights, in bytes, from which a model is listed before it is graded
    check: Check | None = None  # of models; None: in a child process
    reload: Callable[[Rules], Mapping[str, Task]] | None = None  # tasks of rules that were issued since the start
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Opened:
    """A leaderboard that answers."""

    desk: Desk
    working: asyncio.Task[None]  # ends only when something ends the work


@asynccontextmanager
async def open_leaderboard(
    office: Office, swarm: Swarm, signed: SignedCharter, board: NoticeBoard, tell: Tell = lambda _kind, _facts: None
) -> AsyncIterator[Opened]:
    """Answer and work until the block is left.

    Raises:
        LeaderboardError: the rules name another leaderboard, or the store cannot be used.
        SwarmError: the swarm is closed.
        OSError: the vault's folder cannot be made.
    """
    from gridllm.admission.cards import keep_card
    from gridllm.charter.fetch import serve_charter
    from gridllm.ledger.keepers import Keepers
    from gridllm_leaderboard.checking.check import check_in_child
    from gridllm_leaderboard.desk.agenda import Agenda
    from gridllm_leaderboard.desk.arrivals import Arrivals
    from gridllm_leaderboard.desk.books import Books
    from gridllm_leaderboard.desk.calls import Calls
    from gridllm_leaderboard.desk.contributions import Contributions
    from gridllm_leaderboard.desk.course import Course
    from gridllm_leaderboard.desk.fees import Fees
    from gridllm_leaderboard.desk.gradings import Gradings
    from gridllm_leaderboard.desk.guests import Guests, Handout
    from gridllm_leaderboard.desk.proclaiming import Proclaimer
    from gridllm_leaderboard.desk.readings import Readings
    from gridllm_leaderboard.desk.reception import Reception
    from gridllm_leaderboard.desk.regrading import Regrading
    from gridllm_leaderboard.desk.safekeeping import Safekeeping
    from gridllm_leaderboard.desk.standing import Standing
    from gridllm_leaderboard.store.engine import open_engine
    from gridllm_leaderboard.store.store import LeaderboardStore
    from gridllm_leaderboard.upload.receiving import Receiving
    from gridllm_leaderboard.vault.vault import Vault

    async with AsyncExitStack() as stack:
        engine = await asyncio.to_thread(open_engine, office.url)
        store = LeaderboardStore(engine)
        stack.push_async_callback(asyncio.to_thread, store.close)
        books = Books(store)
        stack.push_async_callback(books.close)
        vault = await asyncio.to_thread(Vault, office.vault)
        keepers = Keepers(swarm, signed)
        desk = Desk(
            signed, board, office.identity, books, vault, keepers, office.tasks, office.reload, tell, office.clock
        )
        _ = desk.rules  # raises
        contributions = Contributions(keepers)
        stack.push_async_callback(contributions.close)
        arrivals, course, guests = (
            Arrivals(desk, office.check or check_in_child, lanes_now),
            Course(desk),
            Guests(office.clock),
        )
        handout, standing = Handout(desk, guests), Standing(desk)
        reception = Reception(desk, contributions)
        keeping = Safekeeping(desk, swarm)
        await arrivals.begin()
        await keeping.begin()
        await handout.refresh()
        await standing.warm()
        gradings = Gradings(desk, guests, lambda: course.missing)
        await Calls(swarm, reception, Regrading(desk), gradings, Readings(desk), standing).serve()
        await serve_charter(swarm, signed.raw, handout.manifests, handout.may)
        await handout.seeding.serve(swarm)
        await Receiving(vault, signed.grid, reception, clock=office.clock).serve(swarm)
        proclaimer = Proclaimer(desk, office.maintainer, office.drafts, office.list_above)
        agenda = Agenda(desk, arrivals, Fees(desk), course, keeping, proclaimer, handout, standing)
        card = asyncio.create_task(keep_card(swarm, signed.grid, office.maintainer, office="leaderboards"))
        stack.push_async_callback(_end, card)
        working = asyncio.create_task(agenda.run())
        stack.push_async_callback(_end, working)
        yield Opened(desk, working)


def lanes_now() -> int:
    """How many models this machine can look at at once."""
    import psutil

    from gridllm_leaderboard.desk.turns import lanes

    return lanes(psutil.virtual_memory().available, psutil.cpu_count() or 1)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
