"""``gridllm credit`` and ``gridllm ledger`` as people run them, against two maintainers' real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.economy import home_of
from gridllm.identity.keys import Identity, load
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Transfer
from tests.command import gridllm
from tests.swarm.book_grid import BookGrid, Guest, guest
from tests.swarm.ledger_cheats import until

CREDIT = 1_000_000


class Commands:
    """A participant's home."""

    def __init__(self, grid: BookGrid, home: Path) -> None:
        self.home = home
        joined = gridllm(home, "join", "--no-admission", grid.addresses[0], cold=False)
        assert joined.returncode == 0, joined.stderr
        self.account: str = self.json("id")["public_key"]
        self.key: Identity = load(home / "data" / "gridllm" / "identity.key")

    def json(self, *args: str) -> Any:
        done = gridllm(self.home, *args, "--json", cold=False)
        assert done.returncode == 0, (done.stderr, done.stdout[:1500])
        return json.loads(done.stdout)

    def fails(self, *args: str) -> str:
        done = gridllm(self.home, *args, cold=False)
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[BookGrid]:
    made = BookGrid(tmp_path, count=2, threshold=2)
    try:
        yield made
    finally:
        made.close()


def number_of(grid: BookGrid, keeper: str) -> int:
    return next(n for n, one in enumerate(grid.maintainers) if one.public_key.hex() == keeper)


async def busy(one: Guest, payer: Identity, stop: asyncio.Event) -> int:
    """Small transfers to ever new accounts until told to stop; how many."""
    count = 0
    while not stop.is_set():
        raws = [transfer(one, payer, Identity.ephemeral()) for _ in range(20)]
        assert set(await one.submit(payer, *raws)) == {"accepted"}
        count += len(raws)
        await asyncio.sleep(0.1)
    return count


def transfer(one: Guest, payer: Identity, payee: Identity) -> bytes:
    said = Transfer(
        grid=one.grid.signed.grid,
        payer=payer.public_key.hex(),
        payee=payee.public_key.hex(),
        micro=1,
        memo="",
        serial=Identity.ephemeral().public_key.hex()[:32],
        issued=1,
    )
    return sign(said, payer)


async def test_an_account_sends_looks_and_checks_the_books(grid: BookGrid, tmp_path: Path) -> None:
    for number in (0, 1):
        grid.keep(number)
    me = await asyncio.to_thread(Commands, grid, tmp_path / "me")
    friend, payer = Identity.ephemeral(), Identity.ephemeral()
    async with guest(grid) as one:
        assert await one.submit(me.key, grid.grant(me.key, 10 * CREDIT)) == ["accepted"]
        assert await one.submit(payer, grid.grant(payer, CREDIT)) == ["accepted"]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            load_ = group.create_task(busy(one, payer, stop))
            try:  # books that go on while they are read
                told = await asyncio.to_thread(me.json, "ledger", "verify")
                file = str(tmp_path / "books.zip")
                await asyncio.to_thread(me.json, "ledger", "export", "--out", file)
                sent = await asyncio.to_thread(me.json, "credit", "send", friend.peer, "2.5", "--yes", "--memo", "soup")
            finally:
                stop.set()
        assert told["sound"] is True
        assert len(told["agreeing"]) == 2
        assert told["minted"] == 11 * CREDIT
        assert load_.result() > 0
    assert (sent["balance"], sent["sent_before"]) == (7_500_000, False)
    assert (await asyncio.to_thread(me.json, "ledger", "verify", "--from", file))["sound"] is True
    view = await asyncio.to_thread(me.json, "credit")
    assert (view["balance"], view["granted"], view["sent"]) == (7_500_000, 10 * CREDIT, 2_500_000)
    lines = await asyncio.to_thread(me.json, "credit", "history")
    assert [(line["what"], line["amount"]) for line in lines] == [("sent", -2_500_000), ("grant", 10 * CREDIT)]


async def test_a_transfer_to_a_keeper_that_is_killed_pays_once(grid: BookGrid, tmp_path: Path) -> None:
    for number in (0, 1):
        grid.keep(number)
    me = await asyncio.to_thread(Commands, grid, tmp_path / "me")
    friend = Identity.ephemeral()
    async with guest(grid) as one:
        assert await one.submit(me.key, grid.grant(me.key, 10 * CREDIT)) == ["accepted"]
    home = number_of(grid, home_of(me.account, grid.signed.charter.keepers))
    grid.running[home].process.send_signal(signal.SIGKILL)
    args = ("credit", "send", friend.peer, "2.5", "--yes")
    assert "does not answer" in await asyncio.to_thread(me.fails, *args)
    assert "does not answer" in await asyncio.to_thread(me.fails, *args)  # the same one is tried again
    grid.keep(home)
    sent = await asyncio.to_thread(me.json, *args)
    assert (sent["balance"], sent["sent_before"]) == (7_500_000, False)

    def received() -> int:
        return int(me.json("credit", "--account", friend.peer)["received"])

    # The friend's keeper may be the other one, which copies the books every few seconds.
    await until(lambda: asyncio.to_thread(received), within_s=120)
    assert received() == 2_500_000
    assert list((tmp_path / "me").rglob("outbox/*")) == []


async def test_an_altered_byte_in_a_keepers_database_is_named(grid: BookGrid, tmp_path: Path) -> None:
    for number in (0, 1):
        grid.keep(number)
    me = await asyncio.to_thread(Commands, grid, tmp_path / "me")
    payer = Identity.ephemeral()
    async with guest(grid) as one:
        await one.submit(payer, grid.grant(payer, CREDIT))
        await one.submit(payer, *(transfer(one, payer, Identity.ephemeral()) for _ in range(40)))
    home = number_of(grid, home_of(payer.public_key.hex(), grid.signed.charter.keepers))
    log = grid.maintainers[home].public_key.hex()

    def shown() -> bool:
        return bool(me.json("ledger", "verify")["statements"] == 41)

    await until(lambda: asyncio.to_thread(shown))  # the keeper signs what it took some moments later
    sound = gridllm(grid.homes[home], "ledger", "verify", "--database", str(grid.ledger_file(home)), cold=False)
    assert sound.returncode == 0, sound.stderr
    grid.running[home].stop()
    with closing(sqlite3.connect(grid.ledger_file(home))) as file, file:
        (raw,) = file.execute("SELECT raw FROM entries WHERE place = 23").fetchone()
        spaced = raw.replace(b'{"payload"', b'{ "payload"')  # the same in other words
        file.execute("UPDATE entries SET raw = ? WHERE place = 23", (spaced,))
    here = gridllm(grid.homes[home], "ledger", "verify", "--database", str(grid.ledger_file(home)), cold=False)
    assert here.returncode == 1
    assert "entries" in here.stderr
    grid.keep(home)
    said = await asyncio.to_thread(me.fails, "ledger", "verify")
    assert f"Entry 23 in the log of {log[:16]}…" in said.replace("\n", " ")
