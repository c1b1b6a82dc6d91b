"""A maintainer who keeps books and lies, with the true key: each lie is named by whoever looks."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ledger.paper import Entry, id_of, sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, Voucher
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.store import LedgerStore
from tests.swarm.ledger_cheats import Crook, TradeGrid, crook, until

pytestmark = pytest.mark.timeout(300)

CREDIT = 10**9


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[TradeGrid]:
    made = TradeGrid(tmp_path)
    try:
        yield made
    finally:
        made.close()


def stop(grid: TradeGrid, number: int) -> None:
    assert grid.running.pop(number).stop() == 0


def cook(grid: TradeGrid, number: int, entries: Sequence[Entry]) -> None:
    """Into the keeper's own books, past its clerk; it signs a head of them when it is on line again."""
    engine = open_engine(f"sqlite:///{grid.ledger_file(number)}")
    store = LedgerStore(engine, starter=grid.signed.charter.economy.starter)
    with store.write(grid.maintainers[number].public_key.hex(), time.time()) as batch:
        for entry in entries:
            assert batch.append(entry)
    engine.dispose()


def spending(grid: TradeGrid, one: Crook, payer: Identity, node: str, keeper: Identity) -> list[Entry]:
    """The payer owes far more than it has, and the keeper set it aside."""
    count = Count(decode=10**6)
    raw = one.voucher(node, secrets.token_hex(16), count, key=payer)
    voucher = grid.rules.read(raw).statement
    assert isinstance(voucher, Voucher)
    said = Escrow(
        **{
            name: getattr(voucher, name)
            for name in ("grid", "session", "payer", "payee", "model", "start", "end", "issued")
        },
        micro=voucher.micro,
        gift=False,
        expires=int(time.time()) + 1800,
        keeper=keeper.public_key.hex(),
    )
    return [Entry(sign(said, keeper), said, id_of(said)), Entry(raw, voucher, id_of(voucher))]


async def met(grid: TradeGrid, number: int, size: int) -> None:
    """The other keeper holds so much of this one's log."""
    name, other = (grid.maintainers[at].public_key.hex() for at in (number, 1 - number))

    async def held() -> bool:
        async with crook(grid) as fresh:
            try:
                return len(await fresh.keepers.entries(other, name, 0)) >= size
            except GridError:
                return False

    await until(held, within_s=90, every_s=1)


def said(grid: TradeGrid, number: int, kind: str) -> str:
    """What the maintainer's process told of another keeper; empty: nothing yet."""
    events = [json.loads(line) for line in grid.running[number].output if f'"{kind}"' in line]
    return str(events[0]["keeper"]) if events else ""


async def test_a_keeper_that_lets_an_account_spend_what_it_has_not_is_named(grid: TradeGrid) -> None:
    liar = grid.maintainers[0]
    name = liar.public_key.hex()
    friend, node = grid.account_at(0), Identity.ephemeral().public_key.hex()
    async with crook(grid, friend, credit=CREDIT) as one:
        assert (await asyncio.to_thread(grid.verify))[0] == 0, "so far all is well"
        stop(grid, 0)
        cook(grid, 0, spending(grid, one, friend, node, liar))
    grid.keep(0)
    await met(grid, 0, 3)
    code, told = await asyncio.to_thread(grid.verify)
    assert code == 1
    assert "let it spend what it did not have" in json.dumps(told) and name[:16] in json.dumps(told), told

    theirs = grid.account_at(1)  # and an account that another keeper keeps
    async with crook(grid, theirs, credit=CREDIT) as one:
        entries = spending(grid, one, theirs, node, liar)
    stop(grid, 0)
    cook(grid, 0, entries)
    grid.keep(0)

    async def named() -> bool:
        return said(grid, 1, "invalid_entry") == name

    await until(named, within_s=90)
    async with crook(grid, theirs) as one:
        assert await one.balance() == CREDIT, "its own keeper takes no notice"
        assert len(await one.keepers.entries(one.keepers.home(one.account), name, 0)) == 3, "nothing from there on"
    code, told = await asyncio.to_thread(grid.verify)
    assert code == 1
    text = json.dumps(told)
    assert name[:16] in text and "3" in text, "the first wrong entry"


@pytest.mark.soak
async def test_a_keeper_that_shows_two_histories_is_named_by_verify(grid: TradeGrid, tmp_path: Path) -> None:
    """The same key, two copies of one database that go on apart."""
    name, old = grid.maintainers[0].public_key.hex(), tmp_path / "old"
    ours = grid.account_at(0)
    async with crook(grid, ours, credit=CREDIT):
        await met(grid, 0, 1)
    stop(grid, 0)
    shutil.copy(grid.ledger_file(0), old)
    grid.keep(0)
    async with crook(grid) as one:
        await until(lambda: one.submit(ours, grid.grant(ours, 1)), within_s=90)
    await met(grid, 0, 2)
    assert (await asyncio.to_thread(grid.verify))[0] == 0, "and it remembers this head"
    for number in (0, 1):
        stop(grid, number)
    for path in grid.ledger_file(0).parent.glob("ledger.sqlite*"):
        path.unlink()
    shutil.copy(old, grid.ledger_file(0))
    grid.keep(0)  # nobody else is on line who could contradict
    async with crook(grid) as one:
        await until(lambda: one.submit(ours, grid.grant(ours, 2)), within_s=90)
    code, told = await asyncio.to_thread(grid.verify)
    assert code == 1 and name[:16] in json.dumps(told), told
    grid.keep(1)

    async def convicted() -> bool:
        return said(grid, 1, "two_histories") == name

    await until(convicted, within_s=90)
    code, told = await asyncio.to_thread(grid.verify)
    assert code == 1 and "two histories" in json.dumps(told), told
