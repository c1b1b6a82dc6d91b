"""A keeper's start: nobody else signs with its key, it has all that it signed, and Ctrl-C ends the wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gridllm.admission.cards import publish_card
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.economy import Economy
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.errors import LedgerError, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.messages import HEADS_CALL, Heads, pack
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_bootstrap import serve
from gridllm_bootstrap.keeping import mirroring
from gridllm_bootstrap.keeping.alone import KeptElsewhere, check_alone
from gridllm_bootstrap.keeping.start import Bookkeeping, _unless
from tests.charters import MAINTAINERS, charter
from tests.ledgers import Scribe, hex_of
from tests.unit.keeper_stations import grants, hurry, stations

A, B = MAINTAINERS[:2]
SIGNED: SignedCharter = sign_charter(
    charter(economy=Economy(required=True, keepers=(hex_of(A), hex_of(B))), admission=Admission(required=False)),
    MAINTAINERS,
)


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    made = MemoryNetwork()
    yield made
    for swarm in list(made._swarms.values()):
        await swarm.close()


async def keeping(network: MemoryNetwork, maintainer: Identity, fault: Exception | None = None) -> MemorySwarm:
    """A peer that answers as that keeper."""
    swarm = network.join(Identity.ephemeral())

    async def heads(peer: PeerId, raw: bytes) -> bytes:
        if fault is not None:
            raise fault
        return pack(Heads([]))

    await swarm.serve_calls(HEADS_CALL, heads)
    await publish_card(swarm, SIGNED.grid, maintainer, office="keepers")
    return swarm


@pytest.mark.parametrize("fault", [None, TooSoon("others come first")])
async def test_another_machine_with_the_same_key_is_found(network: MemoryNetwork, fault: Exception | None) -> None:
    other = await keeping(network, A, fault)
    with pytest.raises(KeptElsewhere, match=f"the peer {other.peer} keeps them with the same maintainer's key"):
        await check_alone(network.join(Identity.ephemeral()), SIGNED, hex_of(A))


async def test_other_keepers_itself_and_the_dead_hold_nobody_up(network: MemoryNetwork) -> None:
    me = network.join(Identity.ephemeral())
    await check_alone(me, SIGNED, hex_of(A))  # nobody at all
    await keeping(network, B)
    await check_alone(me, SIGNED, hex_of(A))
    before = await keeping(network, A)
    await check_alone(before, SIGNED, hex_of(A))  # its own card, of an earlier start
    network.kill(before.peer)
    await check_alone(me, SIGNED, hex_of(A))
    without_books = network.join(Identity.ephemeral())
    await publish_card(without_books, SIGNED.grid, A, office="keepers")
    await check_alone(me, SIGNED, hex_of(A))


async def test_a_wait_ends_with_the_stop_with_the_work_or_with_its_fault() -> None:
    stop = asyncio.Event()

    async def endless() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise LedgerError("lost")

    await _unless(stop, asyncio.sleep(0))
    with pytest.raises(LedgerError, match="lost"):
        await _unless(stop, fails())
    stop.set()
    async with asyncio.timeout(60):
        await _unless(stop, endless())


async def test_a_start_does_not_wait_for_ever_for_what_nobody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(mirroring, "LACKING_S", 0.3)
    scribe = Scribe(SIGNED)
    async with stations(tmp_path, SIGNED, A) as grid:
        (a,) = grid.stations
        await a.take(*grants(scribe, 2))
        await a.stop()
        old = a.path.read_bytes()
        await a.start()
        await a.take(*grants(scribe, 3))
        await a.stop()
        await a.start()
        head = a.store.head(a.name)
        await a.stop()
        a.put_back(old)
        await a.start()
        assert head is not None
        await a.mirror.hear(Heads([head]))
        with pytest.raises(LedgerError, match="lack entries that it signed"):
            async with asyncio.timeout(60):
                await a.mirror.looked(0.1)
        assert a.kinds() == ["lost"]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch, network: MemoryNetwork) -> asyncio.Event:
    """Stands for Ctrl-C to a first peer in memory."""
    made = asyncio.Event()

    @contextmanager
    def signals() -> Iterator[asyncio.Event]:
        yield made

    @asynccontextmanager
    async def joined(*_: object) -> AsyncIterator[MemorySwarm]:
        yield network.join(Identity.ephemeral())

    @asynccontextmanager
    async def quiet(*_: object) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(serve, "stop_on_signals", signals)
    monkeypatch.setattr(serve, "open_first_peer", joined)
    monkeypatch.setattr(serve, "gossiping", quiet)
    monkeypatch.setattr(serve.Manifests, "load", lambda self: None)
    return made


async def run(tmp_path: Path, *, as_json: bool = True) -> None:
    books = Bookkeeping(A, "sqlite:///nowhere.db")
    async with asyncio.timeout(60):
        await serve.serve_until_stopped(
            A, SIGNED, Pins(tmp_path), cast(Any, None), as_json=as_json, again="the same", books=books
        )


async def test_ctrl_c_ends_a_start_that_waits(
    tmp_path: Path, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def waits(*given: Any) -> AsyncIterator[None]:
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await _unless(given[-1], cast(Any, asyncio.Event().wait()))
        yield

    monkeypatch.setattr(serve, "open_books", waits)
    await run(tmp_path)
    out = capsys.readouterr().out
    assert '"stopped"' in out and '"ready"' not in out


async def test_a_first_peer_goes_on_where_another_keeps_its_books(
    tmp_path: Path, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def elsewhere(*_: object) -> AsyncIterator[None]:
        asyncio.get_running_loop().call_later(0.3, stop.set)
        raise KeptElsewhere("No books are kept here: another does.")
        yield

    monkeypatch.setattr(serve, "open_books", elsewhere)
    await run(tmp_path)
    out = capsys.readouterr().out
    assert '"elsewhere"' in out and "another does" in out and '"ready"' in out
    stop.clear()
    await run(tmp_path, as_json=False)
    out = capsys.readouterr().out
    assert "Ledger: No books are kept here: another does." in out and "no keeper's key" not in out
