"""A ledger keeper as a real process, on real databases: what it acknowledged outlives ``kill -9``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gridllm.errors import GridError, Insufficient
from gridllm.identity.keys import Identity
from gridllm.ledger.paper import verify_pass
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from tests.command import gridllm
from tests.postgres import PostgresServer
from tests.swarm.book_grid import BookGrid, Guest, guest

CREDIT = 10**12


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> BookGrid:
    return BookGrid(tmp_path_factory.mktemp("books"))


@pytest.fixture
def grid(founded: BookGrid) -> Iterator[BookGrid]:
    """With empty books, and nobody on line."""
    yield founded
    founded.close()
    founded.running.clear()
    for path in founded.ledger_file().parent.glob("ledger.sqlite*"):
        path.unlink()


def account(identity: Identity) -> str:
    return identity.public_key.hex()


async def again(guest: Guest, identity: Identity) -> None:
    """Wait until the keeper that was started anew answers."""
    why: set[str] = set()
    with suppress(TimeoutError):
        async with asyncio.timeout(120):
            while True:
                try:
                    await guest.keepers.account(account(identity))
                    return
                except GridError as error:
                    why.add(str(error))
                await asyncio.sleep(0.2)
    pytest.fail(f"The keeper that was started anew cannot be asked: {why}")


def check(url: str, grid: BookGrid) -> None:
    """Everything in the database follows from its log."""
    engine = open_engine(url)
    migrate(engine)
    LedgerStore(engine, starter=grid.signed.charter.economy.starter).check(grid.rules)
    engine.dispose()


async def spend(one: Guest, payer: Identity, node: Identity, sessions: int, calls: int) -> int:
    """Pay for sessions that run at the same time, call by call; what was paid, micro-credits."""
    home = one.keepers.home(account(payer))
    for call in range(1, calls + 1):
        raws = [one.grid.voucher(payer, node, f"{session:032x}", 32 * call) for session in range(sessions)]
        outcomes = await one.keepers.submit(home, raws)
        assert {outcome.code for outcome in outcomes} == {"accepted"}
    return sessions * one.grid.price(32 * calls)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_what_a_keeper_acknowledged_outlives_it(
    grid: BookGrid, request: pytest.FixtureRequest, database: str
) -> None:
    url, flags = f"sqlite:///{grid.ledger_file()}", ()
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.database()
        flags = ("--ledger", url)
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    assert grid.keep(0, *flags) | {"keeper": ""} == {
        "event": "keeper",
        "open": True,
        "keeper": "",
        "accounts": 0,
        "statements": 0,
    }
    async with guest(grid) as one:
        assert await one.submit(payer, grid.grant(payer, CREDIT)) == ["accepted"]
        delegation = one.delegation(payer)
        shown = verify_pass(await one.keepers.access_pass(account(payer), delegation), grid.signed)
        assert shown.available == CREDIT
        wishes = [grid.wish(node, f"{session:032x}", 10**8) for session in range(40)]
        assert len(await one.keepers.escrows(account(payer), delegation, wishes)) == 40
        paid = await spend(one, payer, node, 40, 8)
        with pytest.raises(Insufficient, match="in escrow"):
            await one.keepers.escrows(account(payer), delegation, [grid.wish(node, "aa" * 16, CREDIT)])
        view = await one.keepers.account(account(payer))
        assert (view.spent, view.escrowed) == (paid, 40 * 10**8 - paid)

        grid.kill(0)  # at once: no farewell, no last words to the disk
        event = grid.keep(0, *flags)
        assert (event["accounts"], event["statements"]) == (2, 1 + 40 + 40 * 8)
        await again(one, payer)
        assert await one.keepers.account(account(payer)) == view
        assert (await one.keepers.account(account(node))).earned == paid
        assert await one.submit(payer, grid.voucher(payer, node, f"{0:032x}", 32 * 8)) == ["known"]
        assert await one.submit(payer, grid.voucher(payer, node, f"{0:032x}", 32 * 9)) == ["accepted"]
    running = grid.running.pop(0)
    assert running.stop() == 0, running.output
    check(url, grid)


async def test_killed_again_and_again_under_load_it_loses_nothing_it_acknowledged(grid: BookGrid) -> None:
    grid.keep()
    payer, nodes = Identity.ephemeral(), [Identity.ephemeral() for _ in range(4)]
    said = {account(node): 0 for node in nodes}  # the highest acknowledged, in tokens

    async def pay(one: Guest, node: Identity) -> None:
        tokens = 0
        while True:
            tokens += 1
            raw = grid.voucher(payer, node, "ab" * 16, tokens)
            with suppress(GridError):
                if await one.submit(payer, raw) == ["accepted"]:
                    said[account(node)] = tokens
            await asyncio.sleep(0)  # while the keeper is left alone nothing else waits

    async with guest(grid) as one:
        assert await one.submit(payer, grid.grant(payer, CREDIT)) == ["accepted"]
        for _ in range(2):
            before = sum(said.values())
            paying = [asyncio.create_task(pay(one, node)) for node in nodes]
            async with asyncio.timeout(120):
                while sum(said.values()) < before + 150:  # noqa: ASYNC110 - plain data
                    await asyncio.sleep(0.002)
            os.kill(grid.running[0].pid, signal.SIGKILL)
            for task in paying:
                task.cancel()
            await asyncio.gather(*paying, return_exceptions=True)
            await asyncio.to_thread(grid.running.pop(0).process.wait, 60)
            await asyncio.to_thread(grid.keep)
            await again(one, payer)
            for node in nodes:
                earned = (await one.keepers.account(account(node))).earned
                assert earned >= grid.price(said[account(node)])
        earned = [(await one.keepers.account(account(node))).earned for node in nodes]
        assert (await one.keepers.account(account(payer))).spent == sum(earned)
    grid.running.pop(0).stop()
    check(f"sqlite:///{grid.ledger_file()}", grid)


async def test_a_database_that_dies_and_comes_back_loses_nothing(grid: BookGrid, tmp_path: Path) -> None:
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    with PostgresServer(tmp_path / "postgres") as server:
        url = server.database()
        grid.keep(0, "--ledger", url)
        async with guest(grid) as one:
            assert await one.submit(payer, grid.grant(payer, CREDIT)) == ["accepted"]
            server.kill()
            voucher = grid.voucher(payer, node, "ab" * 16, 5)
            assert await one.submit(payer, voucher) == ["later"]  # said, and handed in again
            with pytest.raises(GridError, match="its own"):
                await one.keepers.account(account(payer))
            server.start()
            await again(one, payer)
            assert await one.submit(payer, voucher) == ["accepted"]
            assert (await one.keepers.account(account(node))).earned == grid.price(5)
        assert grid.running.pop(0).stop() == 0
        check(url, grid)


async def test_people_are_told_where_books_are_kept(grid: BookGrid) -> None:
    home = grid.homes[0]
    wrong = gridllm(home, "bootstrap", "run", "--ledger", "mysql://somewhere/else")
    assert wrong.returncode == 1
    assert "cannot be kept in 'mysql'" in wrong.stderr
    nobody = gridllm(home, "bootstrap", "run", "--no-keeper", "--ledger", "sqlite:////tmp/x")
    assert nobody.returncode != 0
    assert "no keeper's key" in nobody.stderr
    from tests.command import Running

    with Running(home, "bootstrap", "run") as running:
        assert "0 accounts, 0 statements" in running.wait_for("Books are kept here")
    with Running(home, "bootstrap", "run", "--no-keeper") as running:
        running.wait_for("No books are kept here")
