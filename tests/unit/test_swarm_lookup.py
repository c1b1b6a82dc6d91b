"""The lookup over a simulated DHT: finds what the nearest hold, and is not held up by those that are silent."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.swarm import lookup as lookup_module
from gridllm.swarm.lookup import Lookup
from tests.unit.notes import until

RECORD = {"owner|node": (b"signed", 2e9)}


class Id(int):
    """A node's or key's place in the DHT."""

    def xor_distance(self, other: int) -> int:
        return self ^ other


class Value(NamedTuple):
    value: dict[str, tuple[bytes, float]]
    expiration_time: float


class FakeDht:
    """Peers that know some others and hold some records; ``Lookup`` sees it as hivemind's protocol."""

    def __init__(self) -> None:
        self.node_id = Id(1)
        self.storage: dict[Id, Value] = {}
        self.routing_table = self
        self.known: list[Id] = []  # to ourselves
        self.neighbours: dict[Id, list[Id]] = {}
        self.records: dict[Id, dict[str, tuple[bytes, float]]] = {}
        self.frozen: set[Id] = set()
        self.busy: set[Id] = set()
        self.free = asyncio.Event()  # those that were busy answer now
        self.dead: set[Id] = set()
        self.calls: list[Id] = []

    def get_nearest_neighbors(self, key: Id, k: int, exclude: Id) -> list[tuple[Id, str]]:
        near = sorted((n for n in self.known if n != exclude), key=key.xor_distance)[:k]
        return [(n, f"peer {n}") for n in near]

    async def call_find(self, peer: str, keys: list[Id]) -> Any:
        node = Id(peer.removeprefix("peer "))
        self.calls.append(node)
        if node in self.busy:
            await self.free.wait()
        await asyncio.sleep(20.0 if node in self.frozen else 0)
        if node in self.frozen | self.dead:
            return None
        held = self.records.get(node)
        return {key: (Value(held, 2e9) if held else None, self.named_by(node)) for key in keys}

    def named_by(self, node: Id) -> dict[Id, str]:
        return {n: f"peer {n}" for n in self.neighbours.get(node, [])}


def chain(length: int) -> FakeDht:
    """Each peer knows the next two nearer to key 0; we know the farthest only; the nearest three hold the record."""
    dht = FakeDht()
    peers = [Id(n) for n in range(100, 100 + length)]
    dht.known = peers[-1:]
    dht.neighbours = {n: [m for m in (Id(n - 1), Id(n - 2)) if m in peers] for n in peers}
    dht.records = dict.fromkeys(peers[:3], RECORD)
    return dht


async def test_it_walks_to_the_nearest() -> None:
    dht = chain(30)
    found = await Lookup(dht).find(Id(0))
    assert found.records == RECORD
    assert found.nearest[:3] == ["peer 100", "peer 101", "peer 102"]


async def test_alone_there_is_only_what_is_held_here() -> None:
    dht = FakeDht()
    assert (await Lookup(dht).find(Id(0))).known == 0
    dht.storage[Id(0)] = Value(RECORD, 2e9)
    assert (await Lookup(dht).find(Id(0))).records == RECORD


async def test_the_record_that_expires_last_wins() -> None:
    dht = FakeDht()
    dht.known = [Id(5), Id(6)]
    dht.records = {Id(5): {"a": (b"new", 20.0), "b": (b"b", 5.0)}, Id(6): {"a": (b"old", 10.0)}}
    found = await Lookup(dht).find(Id(0))
    assert found.records == {"a": (b"new", 20.0), "b": (b"b", 5.0)}


async def test_frozen_peers_cost_half_a_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "LAG_S", 0.3)
    dht = FakeDht()
    dht.known = [Id(n) for n in range(10, 16)]
    dht.records = dict.fromkeys(dht.known, RECORD)
    dht.frozen = {Id(10), Id(12)}
    lookup = Lookup(dht)
    started = time.perf_counter()
    async with asyncio.timeout(60):
        found = await lookup.find(Id(0))
    assert found.records == RECORD
    assert time.perf_counter() - started > 0.05
    assert "peer 10" not in found.nearest
    dht.calls.clear()
    await lookup.find(Id(0))
    assert not dht.frozen & set(dht.calls)


async def test_a_peer_that_was_only_busy_is_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "LAG_S", 0.3)
    dht = FakeDht()
    dht.known = [Id(10), Id(11)]
    dht.records = {Id(10): RECORD}
    dht.busy = {Id(10)}
    lookup = Lookup(dht)
    assert not (await lookup.find(Id(0))).records
    dht.free.set()
    await until(lambda: not lookup._lagging)
    assert (await lookup.find(Id(0))).records == RECORD


async def test_peers_that_lagged_are_asked_when_nobody_else_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "LAG_S", 0.3)
    dht = FakeDht()
    dht.known = [Id(10), Id(11)]
    dht.records = {Id(10): RECORD}
    dht.frozen = {Id(10)}
    lookup = Lookup(dht)
    assert not (await lookup.find(Id(0))).records
    dht.frozen, dht.known = set(), [Id(10)]
    assert (await lookup.find(Id(0))).records == RECORD


@given(data=st.data())
def test_any_network_ends_and_finds_what_a_living_near_peer_holds(data: st.DataObject) -> None:
    dht = FakeDht()
    peers = [Id(n) for n in data.draw(st.sets(st.integers(2, 500), min_size=1, max_size=25))]
    some = st.lists(st.sampled_from(peers), max_size=6)
    dht.known = data.draw(some)
    dht.neighbours = {n: data.draw(some) for n in peers}
    dht.dead = set(data.draw(some))
    dht.records = dict.fromkeys(data.draw(some), RECORD)
    found = asyncio.run(Lookup(dht).find(Id(0)))
    assert len(set(dht.calls)) == len(dht.calls)  # nobody is asked twice
    assert bool(found.records) == any(n in dht.records for n in set(dht.calls) - dht.dead)
    assert found.nearest == [f"peer {n}" for n in sorted(set(dht.calls) - dht.dead)]
