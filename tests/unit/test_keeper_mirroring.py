"""Keepers copy each other's logs: only what is missing, whatever is lost on the way, until all books are equal."""

from __future__ import annotations

import asyncio
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gridllm.charter.document import SignedCharter
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.heads import cosigners, verify_head
from gridllm.ledger.paper import Entry
from gridllm_bootstrap.keeping import copies, copying
from gridllm_bootstrap.keeping.vouching import HeadReader, Shown
from tests.charters import MAINTAINERS
from tests.ledgers import Scribe, hex_of, homed, paid_grid, traffic
from tests.unit.keeper_stations import Station, Stations, hurry, stations, until

A, B, C = MAINTAINERS
TWO: SignedCharter = paid_grid(keepers=(hex_of(A), hex_of(B)))
THREE: SignedCharter = paid_grid()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def agree(grid: Stations) -> bool:
    """Whether all hold the same logs, under heads that all signed."""
    sizes = [station.store.sizes() for station in grid.stations]
    if any(size != sizes[0] for size in sizes) or set(sizes[0]) != set(grid.signed.charter.keepers):
        return False
    return all(vouched(grid, station, log) for station in grid.stations for log, size in sizes[0].items())


def vouched(grid: Stations, station: Station, log: str) -> bool:
    raw = station.store.head(log)
    if raw is None or verify_head(raw, grid.signed).size != station.store.sizes()[log]:
        return False
    return set(cosigners(raw, grid.signed)) == set(grid.signed.charter.keepers) - {log}


def check_equal(grid: Stations) -> None:
    first, *others = grid.stations
    for other in others:
        assert other.books() == first.books()
        for log, size in first.store.sizes().items():
            assert other.store.root(log, size) == first.store.root(log, size)
    for station in grid.stations:
        assert not station.told
        station.store.check(grid.rules)


def day(signed: SignedCharter, rng: random.Random) -> list[tuple[Identity | None, Entry]]:
    """Statements beside the account whose home must take them; None: anybody."""
    scribe = Scribe(signed)
    nodes = [Identity.ephemeral() for _ in range(3)]
    payers = [homed(signed, keeper) for keeper in signed.charter.keepers for _ in range(2)]
    said: list[tuple[Identity | None, Entry]] = [(None, scribe.enrolment(node)) for node in nodes]
    said += [(None, scribe.grant(payer, 10**12)) for payer in payers]
    for payer in payers:
        node = rng.choice(nodes)
        said += [(payer, scribe.voucher(payer, node, 7, decode)) for decode in rng.sample(range(1, 900), 5)]
        said.append((payer, scribe.transfer(payer, rng.choice([one for one in payers if one is not payer]), 1000)))
    return said


async def hand_in(grid: Stations, said: list[tuple[Identity | None, Entry]], rng: random.Random) -> None:
    """Each where it belongs, and some twice; what is not covered yet comes again."""
    for account, entry in said:
        station = rng.choice(grid.stations) if account is None else grid.home(account)
        for _ in range(rng.choice([1, 1, 2])):
            (outcome,) = await station.keeper.submit([entry.raw])
            while outcome.code not in ("accepted", "known"):  # the grant went to another keeper
                assert outcome.code in ("later", "insufficient"), outcome
                await asyncio.sleep(0.05)
                (outcome,) = await station.keeper.submit([entry.raw])


@pytest.mark.parametrize("signed", [TWO, THREE], ids=["two", "three"])
async def test_books_converge_whatever_the_order(tmp_path: Path, signed: SignedCharter) -> None:
    rng = random.Random(len(signed.charter.keepers))
    said = day(signed, rng)
    rng.shuffle(said)
    said.sort(key=lambda one: one[0] is not None)  # grants first, or nothing is accepted; to whomever
    keepers = [one for one in MAINTAINERS if hex_of(one) in signed.charter.keepers]
    async with stations(tmp_path, signed, *keepers) as grid:
        for station in grid.stations:
            station.line.loss = 0.3
        half = len(said) // 2
        await asyncio.gather(hand_in(grid, said[:half:2], rng), hand_in(grid, said[1:half:2], rng))
        await grid.stations[0].stop()
        await grid.stations[0].start()
        await asyncio.gather(*(hand_in(grid, said[half + at :: 3], rng) for at in range(3)))
        await until(lambda: agree(grid))
        check_equal(grid)
        total = sum(account.balance for account in grid.stations[0].books().values())
        assert total == sum(account.granted for account in grid.stations[0].books().values()) > 10**12


async def test_only_missing_entries_are_fetched(tmp_path: Path) -> None:
    coming = list(traffic(THREE, hex_of(A), 400))
    async with stations(tmp_path, THREE, A, B, C, stalled_s=60) as grid:
        a, b, c = grid.stations
        for start in range(0, 400, 80):
            await a.take(*[entry for entry in coming[start : start + 80] if not entry_by_keeper(entry)])
            await until(lambda: agree(grid))
        size = b.store.sizes()[a.name]
        assert size >= 300
        for station in (b, c):
            assert station.line.count() == size
            starts = [first for _, _, first, _ in station.line.fetched]
            assert starts == sorted(set(starts))
            assert {holder for holder, _, _, _ in station.line.fetched} == {a.name}  # not from each other as well
        assert not a.line.fetched  # it has them
        await b.stop()
        await b.start()
        await asyncio.sleep(0.3)
        assert not b.line.fetched  # it goes on from what it has
        check_equal(grid)


def entry_by_keeper(entry: Entry) -> bool:
    """Escrows are the keeper's own: it signs what is needed."""
    return type(entry.statement).__name__ == "Escrow"


async def test_a_log_that_never_rests_is_vouched_for(tmp_path: Path) -> None:
    """Its newest head has hardly been seen by anybody; the one before was, and is shown with it."""
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        stranger = grid.network.join(Identity.ephemeral())
        auditor = Keepers(stranger, TWO, find=b._find)
        vouched: set[int] = set()
        async with asyncio.timeout(120):
            while len(vouched) < 4:
                await a.take(scribe.grant(Identity.ephemeral(), 5))
                heads = [HeadReader(TWO).read(raw) for raw in (await auditor.heads(a.name)).heads]
                own = [one for one in heads if one.keeper == a.name]
                assert 1 <= len(own) <= 2
                vouched |= {one.size for one in own if one.cosigners == {b.name}}
        await stranger.close()


async def test_a_long_log_comes_in_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "STRETCH_ENTRIES", 50)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await b.stop()
        await a.take(*[entry for entry in traffic(TWO, a.name, 400) if not entry_by_keeper(entry)])
        sizes: list[int] = []
        power_cuts: list[Path] = []
        await b.start()
        b.line.page = 20
        write = b.keeper.write

        async def noting(log: str, work: object) -> object:
            done = await write(log, work)  # type: ignore[arg-type]
            sizes.append(b.store.sizes().get(log, 0))
            head = b.store.head(log)
            assert head is None or verify_head(head, TWO).size <= sizes[-1]  # nothing is promised that is not held
            power_cuts.append(snapshot(b.path, tmp_path / f"cut{len(sizes)}.db"))
            return done

        monkeypatch.setattr(b.keeper, "write", noting)
        await until(lambda: agree(grid))
        assert sizes[:3] == [50, 100, 150]
        check_equal(grid)
        await b.stop()
        b.put_back(power_cuts[1].read_bytes())
        shutil.copy(f"{power_cuts[1]}-wal", f"{b.path}-wal")
        await b.start()
        assert b.store.sizes()[a.name] == 100
        b.store.check(grid.rules)
        await until(lambda: agree(grid))
        assert b.line.count(a.name) == a.store.sizes()[a.name] - 100
        check_equal(grid)


def snapshot(path: Path, to: Path) -> Path:
    """The database's files as they lie on the disk now."""
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{to}{ending}")
    return to


async def test_two_that_bring_the_same_at_once(tmp_path: Path) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await b.mirror.__aexit__(None, None, None)
        await a.take(*(scribe.grant(Identity.ephemeral(), 5) for _ in range(6)))
        await until(lambda: a.store.head(a.name) is not None and a.store.root(a.name, 6).hex() in str(head_of(a)))
        with ThreadPoolExecutor(1) as worker:
            reader = HeadReader(TWO)
            copier = copying.Copier(b.keeper, b.line, reader, worker)
            target, copy = head_of(a), copies.copy_of(b.store, a.name, reader)
            taken = await asyncio.gather(*(copier.stretch(a.name, target, copy) for _ in range(3)))
        assert sorted(taken) == [0, 0, 6]
        assert b.store.sizes()[a.name] == 6
        b.store.check(grid.rules)


def head_of(station: Station) -> Shown:
    raw = station.store.head(station.name)
    assert raw is not None
    return HeadReader(station.grid.signed).read(raw)


async def test_a_third_keepers_log_comes_through_another(tmp_path: Path) -> None:
    async with stations(tmp_path, THREE, A, B, C) as grid:
        a, b, c = grid.stations
        await c.stop()
        scribe = Scribe(THREE)
        await a.take(*(scribe.grant(Identity.ephemeral(), 5) for _ in range(10)))
        await until(lambda: b.store.sizes().get(a.name) == 10)
        await a.stop()
        await c.start()
        await until(lambda: c.store.sizes().get(a.name) == 10)
        assert {holder for holder, log, _, _ in c.line.fetched if log == a.name} == {b.name}
        head = c.store.head(a.name)
        assert head is not None and set(cosigners(head, THREE)) == {b.name, c.name}
        await a.start()
        await until(lambda: agree(grid))
        check_equal(grid)


async def test_nobody_is_asked_for_anothers_log_before_that_one_had_time(tmp_path: Path) -> None:
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C, stalled_s=60) as grid:
        a, b, c = grid.stations
        await b.cut_off_from(a)
        await a.take(*(scribe.grant(Identity.ephemeral(), 5) for _ in range(3)))
        await until(lambda: c.store.sizes().get(a.name) == 3)
        await asyncio.sleep(0.3)  # some rounds
        assert not b.line.fetched


async def test_a_keeper_put_back_to_an_older_state_gets_its_log_back(tmp_path: Path) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await a.take(*(scribe.grant(Identity.ephemeral(), 5) for _ in range(5)))
        await until(lambda: agree(grid))
        await a.stop()
        old = a.path.read_bytes()
        await a.start()
        await a.take(*(scribe.grant(Identity.ephemeral(), 5) for _ in range(7)))
        await until(lambda: b.store.sizes().get(a.name) == 12)
        await a.stop()
        a.put_back(old)
        await a.start()
        await a.mirror.looked(10)
        assert a.store.sizes()[a.name] == 12
        assert a.kinds() == ["lost"] and "has 5 entries, and it signed 12" in a.told[0].text
        await a.take(scribe.grant(Identity.ephemeral(), 5))
        await until(lambda: agree(grid))
        assert not b.told and a.books() == b.books()
