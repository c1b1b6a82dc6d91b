"""Gossip of notices over an in-memory swarm: it spreads, heals, and strangers cannot disturb it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.charter import gossip as gossip_module
from gridllm.charter import news as news_module
from gridllm.charter.board import NoticeBoard
from gridllm.charter.gossip import (
    NOTICE_CALL,
    NOTICES_CALL,
    PAGE_BYTES,
    Gossip,
    fetch_notices,
    page_of,
    push_notice,
    serve_notices,
)
from gridllm.charter.news import hear_news
from gridllm.errors import CallTimeout, GridError, Malformed, NoticeError, SwarmError, WireError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from tests.unit.test_charter_notices import PEERS, SIGNED, amendment, revocation

SOON = (0.05, 0.1)  # seconds between polls in these tests


class Member:
    """One swarm with a board."""

    def __init__(self, network: MemoryNetwork, path: Path | None = None) -> None:
        self.swarm: MemorySwarm = network.join(Identity.ephemeral())
        self.board = NoticeBoard(SIGNED, path, clock=lambda: 1_800_000_000)

    @asynccontextmanager
    async def gossiping(self, *others: Member, every_s: tuple[float, float] = SOON) -> AsyncIterator[None]:
        peers = [(other.swarm.peer, other.swarm.addresses) for other in (*others, self)]
        task = asyncio.create_task(Gossip(self.swarm, self.board, lambda: peers, every_s=every_s).run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def pair() -> tuple[Member, Member]:
    network = MemoryNetwork()
    one, other = Member(network), Member(network)
    await serve_notices(one.swarm, one.board)
    return one, other


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.01)


async def test_fetching(pair: tuple[Member, Member]) -> None:
    one, other = pair
    one.board.add(revocation())
    one.board.add(amendment(3))
    other.board.add(amendment(2))
    assert await fetch_notices(other.swarm, one.swarm.peer, other.board)
    assert other.board.digest == one.board.digest
    assert not await fetch_notices(other.swarm, one.swarm.peer, other.board)


async def test_many_pages(pair: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_module, "PAGE_BYTES", 2000)
    one, other = pair
    await one.board.take([revocation(f"12D3KooWMany{number}") for number in range(10)])
    assert await fetch_notices(other.swarm, one.swarm.peer, other.board)
    assert other.board.raws() == one.board.raws()


async def test_news_are_heard_from_those_who_tell_them_in_time(
    pair: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger that tells slowly and without end holds nobody up for longer than a few pages take."""
    monkeypatch.setattr(gossip_module, "PAGE_BYTES", 1)
    one, other = pair
    await one.board.take([revocation(f"12D3KooWMany{number}") for number in range(60)])
    usual = other.swarm.call

    async def slowly(*args: Any, **kwargs: Any) -> bytes:
        await asyncio.sleep(0.1)  # sixty times: longer than four pages may take
        return await usual(*args, **kwargs)

    monkeypatch.setattr(other.swarm, "call", slowly)
    peers = [(one.swarm.peer, one.swarm.addresses)]
    assert not await hear_news(other.swarm, other.board, peers, timeout_s=1.0)
    assert 0 < len(other.board.raws()) < 60
    monkeypatch.setattr(other.swarm, "call", usual)
    assert await hear_news(other.swarm, other.board, peers, timeout_s=60.0)
    assert other.board.raws() == one.board.raws()


async def test_news_do_not_wait_for_those_who_are_gone(
    pair: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news_module, "STRAGGLERS_S", 0.05)
    one, other = pair
    await one.board.take([revocation()])
    usual = other.swarm.connect

    async def connect(peer: PeerId, *args: Any, **kwargs: Any) -> None:
        await (usual(peer, *args, **kwargs) if peer == one.swarm.peer else asyncio.sleep(3600))

    monkeypatch.setattr(other.swarm, "connect", connect)
    peers = [(Identity.ephemeral().peer, ("/ip4/192.0.2.1/tcp/1",)), (one.swarm.peer, one.swarm.addresses)]
    async with asyncio.timeout(60):
        assert await hear_news(other.swarm, other.board, peers, timeout_s=3600)
    assert other.board.raws() == one.board.raws()


def test_pages_fit_into_a_call() -> None:
    raws = [bytes(16 * 1024)] * 100
    page = page_of(raws, 0)
    assert page.total == 100
    assert PAGE_BYTES // 2 < sum(map(len, page.notices)) <= PAGE_BYTES
    assert len(page_of(raws, 98).notices) == 2
    assert page_of(raws, 1000).notices == []
    assert len(page_of([bytes(2 * PAGE_BYTES)], 0).notices) == 1


async def test_pushing(pair: tuple[Member, Member]) -> None:
    one, other = pair
    assert await push_notice(other.swarm, one.swarm.peer, revocation())
    assert not await push_notice(other.swarm, one.swarm.peer, revocation())
    assert one.board.revocation(PEERS[0]) is not None


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"{}", b"\xc1" * 50_000, b"[" * 10_000])
async def test_garbage_gets_a_named_refusal(pair: tuple[Member, Member], garbage: bytes) -> None:
    one, other = pair
    with pytest.raises(SwarmError, match="notice"):
        await other.swarm.call(one.swarm.peer, NOTICE_CALL, garbage)
    with pytest.raises(Malformed, match="36 bytes"):
        await other.swarm.call(one.swarm.peer, NOTICES_CALL, garbage)
    assert one.board.raws() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"\xff", WireError),
        (b"\x92\x01", WireError),
        (b"\x92\x01\x91\xc4\x03abc", NoticeError),  # one notice: "abc"
        (b"\x92\x01\x90", None),  # one notice announced, none sent: the end
    ],
)
async def test_lying_peers(answer: bytes, error: type[GridError] | None) -> None:
    network = MemoryNetwork()
    liar, honest = network.join(Identity.ephemeral()), Member(network)

    async def lie(_peer: PeerId, _payload: bytes) -> bytes:
        return answer

    await liar.serve_calls(NOTICES_CALL, lie)
    if error is None:
        assert not await fetch_notices(honest.swarm, liar.peer, honest.board)
    else:
        with pytest.raises(error):
            await fetch_notices(honest.swarm, liar.peer, honest.board)
    assert honest.board.raws() == []


async def test_pages_of_notices_spelled_anew_are_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MemoryNetwork()
    liar, honest = network.join(Identity.ephemeral()), Member(network)
    raw = revocation()
    await honest.board.take([raw])
    pages = 0

    async def respell(_peer: PeerId, _payload: bytes) -> bytes:
        nonlocal pages
        pages += 1
        spelled = [b" " * (pages * 100 + number) + raw for number in range(100)]
        return msgspec.msgpack.encode(gossip_module.Page(1_000_000, spelled))

    await liar.serve_calls(NOTICES_CALL, respell)
    assert not await fetch_notices(honest.swarm, liar.peer, honest.board)
    assert pages == 3


async def test_a_frozen_peer(pair: tuple[Member, Member]) -> None:
    one, other = pair
    one.swarm._network.freeze(one.swarm.peer)
    with pytest.raises(CallTimeout):
        await fetch_notices(other.swarm, one.swarm.peer, other.board, timeout_s=0.05)


async def test_a_change_is_told_at_once() -> None:
    network = MemoryNetwork()
    members = [Member(network) for _ in range(3)]
    for member in members:
        await serve_notices(member.swarm, member.board)
    one, two, three = members
    seldom = (60.0, 60.0)
    async with one.gossiping(two, every_s=seldom), two.gossiping(three, every_s=seldom):
        one.board.add(revocation())
        await until(lambda: three.board.revocation(PEERS[0]) is not None)  # over two, which passes it on


async def test_asking_heals_what_was_missed(pair: tuple[Member, Member]) -> None:
    one, other = pair
    lost = Member(one.swarm._network)
    one.board.add(revocation())  # before anyone gossips
    one.swarm._network.kill(lost.swarm.peer)  # one of the peers is gone: the others are asked all the same
    async with other.gossiping(lost, one):
        await until(lambda: other.board.digest == one.board.digest)


async def test_what_another_process_writes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_module, "LOOK_AT_FILE_S", 0.02)
    path = tmp_path / "notices.json"
    member = Member(MemoryNetwork(), path)
    async with member.gossiping():
        NoticeBoard(SIGNED, path).add(revocation(issued=2_000_000_000))
        await until(lambda: member.board.revocation(PEERS[0]) is not None)


async def test_faults_of_ours_do_not_end_it(pair: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_module, "FAULT_PAUSE_S", 0.01)
    one, other = pair
    one.board.add(revocation())
    connect, faults = other.swarm.connect, iter(range(2))

    async def connects(peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float) -> None:
        if next(faults, None) is not None:
            raise RuntimeError("a defect")
        await connect(peer, addresses, timeout_s=timeout_s)

    monkeypatch.setattr(other.swarm, "connect", connects)
    async with other.gossiping(one):
        await until(lambda: other.board.digest == one.board.digest)


async def test_who_is_asked_may_fail_to_be_known_once(
    pair: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip_module, "FAULT_PAUSE_S", 0.01)
    one, other = pair
    one.board.add(revocation())
    faults = iter(range(2))

    def peers() -> list[tuple[PeerId, tuple[str, ...]]]:
        if next(faults, None) is not None:
            raise OSError("the disk")
        return [(one.swarm.peer, one.swarm.addresses)]

    task = asyncio.create_task(Gossip(other.swarm, other.board, peers, every_s=SOON).run())
    await until(lambda: other.board.digest == one.board.digest)
    task.cancel()
    await asyncio.wait([task])
