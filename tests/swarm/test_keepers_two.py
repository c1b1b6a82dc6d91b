"""Two maintainers keep one grid's books as real processes: they copy each other's, and tell on one that lies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gridllm.charter.economy import home_of
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ledger.log.evidence import verify_equivocation
from gridllm.ledger.log.heads import cosigners, verify_head
from gridllm.ledger.messages import AccountView
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.store import LedgerStore
from tests.swarm.book_grid import BookGrid, Guest, guest
from tests.unit.keeper_stations import until

CREDIT = 10**12
SESSION = "ab" * 16


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[BookGrid]:
    made = BookGrid(tmp_path, count=2, threshold=2)
    try:
        yield made
    finally:
        made.close()


def name(grid: BookGrid, number: int) -> str:
    return grid.maintainers[number].public_key.hex()


def payer_of(grid: BookGrid, number: int) -> Identity:
    """An account whose home is that maintainer."""
    while True:
        one = Identity.ephemeral()
        if home_of(one.public_key.hex(), grid.signed.charter.keepers) == name(grid, number):
            return one


async def eventually(holds: Callable[[], object], within_s: float = 120.0) -> None:
    """Ask until it holds; keepers that are started anew are silent for a while."""
    async with asyncio.timeout(within_s):
        while True:
            with suppress(GridError):
                if await holds():  # type: ignore[misc]
                    return
            await asyncio.sleep(0.3)


async def sums(one: Guest, number: int) -> dict[str, AccountView]:
    """All accounts, as that keeper has them."""
    return {view.account: view for view in await one.keepers.accounts(name(one.grid, number))}


async def in_agreement(one: Guest, entries: int) -> bool:
    """Whether both hold so many entries in all, and both signed the heads of all of them."""
    grid = one.grid
    for number in (0, 1):
        newest: dict[str, tuple[int, bytes]] = {}
        for raw in (await one.keepers.heads(name(grid, number))).heads:
            head = verify_head(raw, grid.signed)
            newest[head.keeper] = max(newest.get(head.keeper, (0, b"")), (head.size, raw))
        if sum(size for size, _ in newest.values()) != entries or len(newest) < 2:
            return False
        if any(len(cosigners(raw, grid.signed)) < 1 for _, raw in newest.values()):
            return False
    return True


async def test_two_keepers_come_to_the_same_books_whatever_happens_to_one(grid: BookGrid) -> None:
    grid.keep(0)
    grid.keep(1)
    payers, node = [payer_of(grid, number) for number in (0, 1)], Identity.ephemeral()
    async with guest(grid) as one:
        for payer in payers:
            await eventually(lambda payer=payer: one.keepers.account(payer.public_key.hex()))
            assert await one.submit(payer, grid.grant(payer, CREDIT)) == ["accepted"]
            assert (
                await one.submit(payer, *(grid.voucher(payer, node, SESSION, 10 * at) for at in range(1, 21)))
                == ["accepted"] * 20
            )
        await eventually(lambda: in_agreement(one, 2 * (1 + 20 + 20)))  # a grant; each voucher with its escrow

        grid.kill(1)
        assert await one.submit(payers[0], grid.voucher(payers[0], node, SESSION, 300)) == ["accepted"]
        grid.keep(1)
        await eventually(lambda: one.submit(payers[1], grid.voucher(payers[1], node, SESSION, 400)))
        await eventually(lambda: in_agreement(one, 82 + 4))
        first, second = await sums(one, 0), await sums(one, 1)
        assert first == second
        assert first[node.public_key.hex()].earned == grid.price(300) + grid.price(400)
        assert not (await one.keepers.heads(name(grid, 0))).evidence
    for number in (0, 1):
        assert grid.running.pop(number).stop() == 0
        engine = open_engine(f"sqlite:///{grid.ledger_file(number)}")
        LedgerStore(engine, starter=0).check(grid.rules)
        engine.dispose()


async def test_a_keeper_that_lost_its_books_and_signs_on_is_named(grid: BookGrid) -> None:
    """Nobody who could give it back what it had signed is on line: so it tells another history."""
    liar, payer = name(grid, 0), payer_of(grid, 0)
    grid.keep(0)
    grid.keep(1)
    async with guest(grid) as one:
        await eventually(lambda: one.submit(payer, grid.grant(payer, CREDIT)))
        await eventually(lambda: in_agreement(one, 1))
    for number in (1, 0):
        grid.running.pop(number).stop()
    for path in grid.ledger_file(0).parent.glob("ledger.sqlite*"):
        path.unlink()
    grid.keep(0)
    async with guest(grid) as one:
        await eventually(lambda: one.submit(payer, grid.grant(payer, 2)))
        grid.keep(1)
        for number in (1, 0):  # it hears of it, too
            output = grid.running[number].output  # what was said before the books were open, too
            await until(lambda output=output: any("two_histories" in line for line in output), within_s=120)
            event = next(json.loads(line) for line in output if "two_histories" in line)
            assert (event["event"], event["keeper"]) == ("ledger", liar)
            assert event["text"].startswith(f"The keeper {liar[:16]}… showed two histories")
        (raw,) = (await one.keepers.heads(name(grid, 1))).evidence
        assert verify_equivocation(raw, grid.signed).keeper == liar
