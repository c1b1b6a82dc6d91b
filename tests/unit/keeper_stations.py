"""Keepers on line in memory: real desks over real SQLite files, answering calls, mirroring each other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gridllm.admission.cards import AuthorityCard
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.errors import Unreachable
from gridllm.identity.keys import Identity
from gridllm.ledger import keeper_lines
from gridllm.ledger.fold import Account
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import Heads
from gridllm.ledger.paper import Entry
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.store import LedgerStore
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from gridllm_bootstrap.keeping import writing
from gridllm_bootstrap.keeping.calls import Calls
from gridllm_bootstrap.keeping.desk import Keeper
from gridllm_bootstrap.keeping.mirroring import Discord, Mirror
from tests.ledgers import NOW, STARTER, Scribe, hex_of, rulebook
from tests.unit.keeper_house import blank


class Line(Keepers):
    """One keeper's way to the others; counts what comes, loses some of it."""

    def __init__(self, swarm: Swarm, signed: SignedCharter, find: keeper_lines.Find) -> None:
        super().__init__(swarm, signed, find=find)
        self.fetched: list[tuple[str, str, int, int]] = []  # of whom, whose log, from where on, how many
        self.loss = 0.0
        self.hangs = ""  # a keeper whose answers never come
        self.alter: Callable[[str, int, list[bytes]], list[bytes]] = lambda log, first, raws: raws
        self._random = random.Random(1)

    async def heads(self, keeper: str, brought: Heads | None = None) -> Heads:
        self._lose()
        if keeper == self.hangs:
            await asyncio.Event().wait()
        return await super().heads(keeper, brought)

    async def entries(self, keeper: str, log: str, first: int, limit: int = 1024) -> list[bytes]:
        self._lose()
        raws = self.alter(log, first, await super().entries(keeper, log, first, min(limit, self.page)))
        self.fetched.append((keeper, log, first, len(raws)))
        return raws

    page = 1024

    def _lose(self) -> None:
        if self._random.random() < self.loss:
            raise Unreachable("lost")

    def count(self, log: str | None = None) -> int:
        """Entries that came."""
        return sum(count for _, whose, _, count in self.fetched if log in (None, whose))


class Station:
    """A keeper: on line, or not."""

    def __init__(self, grid: Stations, maintainer: Identity, path: Path) -> None:
        self.grid = grid
        self.maintainer = maintainer
        self.name = hex_of(maintainer)
        self.path = path
        self.finds: dict[str, Station] = {}
        """Where it finds a keeper, in place of the grid's."""
        self.told: list[Discord] = []
        self.line: Line
        self.keeper: Keeper
        self.mirror: Mirror
        self.store: LedgerStore
        self.card: AuthorityCard | None = None
        self._stack: AsyncExitStack | None = None

    async def start(self) -> None:
        if not self.path.exists():
            self.path.write_bytes(blank())
        async with AsyncExitStack() as stack:
            engine = open_engine(f"sqlite:///{self.path}")
            stack.callback(engine.dispose)
            self.store = LedgerStore(engine, starter=STARTER)
            swarm = self.grid.network.join(Identity.ephemeral())
            stack.push_async_callback(swarm.close)
            board = NoticeBoard(self.grid.signed)
            desk = Keeper(self.store, self.grid.rules, self.maintainer, board, clock=lambda: NOW)
            self.keeper = await stack.enter_async_context(desk)
            self.line = Line(swarm, self.grid.signed, self._find)
            mirror = Mirror(self.keeper, self.line, tell=self.told.append, every_s=0.05, stalled_s=self.grid.stalled_s)
            calls = Calls(self.keeper, swarm, vouched=lambda: mirror.vouched, hear=mirror.hear)
            await calls.serve()
            self.card = AuthorityCard(
                grid=self.grid.signed.grid,
                maintainer=self.name,
                peer=swarm.peer,
                addresses=list(swarm.addresses),
                issued=NOW,
                expires=NOW + 900,
            )
            self.mirror = await stack.enter_async_context(mirror)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        self.card = None
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()

    async def cut_off_from(self, other: Station) -> None:
        """From now on it does not find that one."""
        await self.stop()
        self.finds = {other.name: self}
        await self.start()

    def put_back(self, database: bytes) -> None:
        """Another database in place of this keeper's, which is off line."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()
        self.path.write_bytes(database)

    async def take(self, *entries: Entry) -> None:
        outcomes = await self.keeper.submit([entry.raw for entry in entries])
        assert {outcome.code for outcome in outcomes} <= {"accepted", "known"}, outcomes

    def books(self) -> dict[str, Account]:
        return dict(self.store.accounts(limit=10_000))

    def kinds(self) -> list[str]:
        return [discord.kind for discord in self.told]

    async def _find(self, swarm: Swarm, signed: SignedCharter) -> list[AuthorityCard]:
        found = [self.finds.get(station.name, station) for station in self.grid.stations]
        return [station.card for station in found if station.card is not None and station is not self]


class Stations:
    """All keepers of a grid."""

    def __init__(self, folder: Path, signed: SignedCharter, *maintainers: Identity, stalled_s: float) -> None:
        self.folder = folder
        self.signed = signed
        self.rules = rulebook(signed)
        self.network = MemoryNetwork()
        self.stalled_s = stalled_s
        self.stations = [Station(self, one, folder / f"{at}.db") for at, one in enumerate(maintainers)]
        self.more: list[Station] = []

    def another(self, maintainer: Identity, name: str) -> Station:
        """A second one with the same key, which is found only by those who are told where."""
        station = Station(self, maintainer, self.folder / f"{name}.db")
        self.more.append(station)
        return station

    def home(self, account: Identity) -> Station:
        home = self.rules.home(hex_of(account))
        return next(station for station in self.stations if station.name == home)


@asynccontextmanager
async def stations(
    folder: Path, signed: SignedCharter, *maintainers: Identity, stalled_s: float = 0.3
) -> AsyncIterator[Stations]:
    grid = Stations(folder, signed, *maintainers, stalled_s=stalled_s)
    try:
        for station in grid.stations:
            await station.start()
        yield grid
    finally:
        for station in [*grid.stations, *grid.more]:
            await station.stop()


def grants(scribe: Scribe, count: int) -> list[Entry]:
    """Some sound statements."""
    return [scribe.grant(Identity.ephemeral(), 5) for _ in range(count)]


async def until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for something to come true."""
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, "it did not come true"
        await asyncio.sleep(0.02)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are signed often, and who was silent is asked again at once."""
    monkeypatch.setattr(writing, "HEAD_EVERY_S", 0.03)
    monkeypatch.setattr(keeper_lines, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(keeper_lines, "LONGEST_PAUSE_S", 0.05)
