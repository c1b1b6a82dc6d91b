"""What one peer can make another keep or do through the DHT's own calls."""

from __future__ import annotations

import time

import pytest

from gridllm.errors import Full, TooLarge
from gridllm.swarm import gate, storage
from gridllm.swarm.gate import CallGate
from gridllm.swarm.hivemind_parts import DHTID, DHTLocalStorage
from gridllm.swarm.storage import BoundedStorage, NoStorage, bound

KEY = DHTID.generate("key")
OWNER, OTHER = "a" * 64, "b" * 64


def soon() -> float:
    return time.time() + 60


def test_a_record_is_kept_replaced_and_not_set_back() -> None:
    held = BoundedStorage()
    first, later = soon(), soon() + 10
    assert held.store(KEY, b"new", later, subkey=f"{OWNER}|node")
    assert not held.store(KEY, b"old", first, subkey=f"{OWNER}|node")
    assert not held.store(KEY, b"new", later, subkey=f"{OWNER}|node")
    assert held.get(KEY).value.get(f"{OWNER}|node").value == b"new"
    assert held.get(KEY).value.key_to_heap[f"{OWNER}|node"].expiration_time == later


def test_one_owner_has_few_records_under_a_key() -> None:
    held = BoundedStorage()
    stored = [held.store(KEY, b"x", soon(), subkey=f"{OWNER}|{i}") for i in range(10)]
    assert sum(stored) == storage.OWNER_RECORDS
    assert held.store(KEY, b"x", soon(), subkey=f"{OTHER}|0")
    assert held.store(KEY, b"newer", soon() + 1, subkey=f"{OWNER}|0")


def test_a_key_a_storage_and_its_heaps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "KEY_BYTES", 10_000)
    monkeypatch.setattr(storage, "TOTAL_BYTES", 30_000)
    held = BoundedStorage()
    for key in range(10):
        for owner in range(100):
            held.store(DHTID.generate(str(key)), bytes(488), soon(), subkey=f"{owner:064x}|node")
    sizes = [storage._size(item.value.data) for _, item in held.items()]
    assert max(sizes) == 10_000
    assert sum(sizes) == 30_000
    for refresh in range(1000):
        held.store(DHTID.generate("0"), bytes(488), soon() + refresh, subkey=f"{0:064x}|node")
    assert len(held.expiration_heap) < 200
    assert len(held.get(DHTID.generate("0")).value.expiration_heap) < 200


def test_plain_values_and_caches_are_refused() -> None:
    assert not BoundedStorage().store(KEY, b"plain", soon())
    assert not NoStorage().store(KEY, b"plain", soon())
    assert not NoStorage().store(KEY, b"x", soon(), subkey=f"{OWNER}|node")
    assert not NoStorage().store_subkey(KEY, f"{OWNER}|node", b"x", soon())


def test_what_came_before_the_bounds_is_taken_over() -> None:
    class Protocol:
        storage = DHTLocalStorage()
        cache = DHTLocalStorage()

    Protocol.storage.store(KEY, b"x", soon(), subkey=f"{OWNER}|node")
    bound(Protocol)
    assert Protocol.storage.get(KEY).value.get(f"{OWNER}|node").value == b"x"


async def test_calls_are_answered_only_so_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: bytes, _peer: object) -> bytes:
        return request

    monkeypatch.setattr(gate, "CALLS_BURST", 5.0)
    monkeypatch.setattr(gate, "CALLS_PER_S", 0.0)
    handlers = CallGate({"early": answer})
    handlers["Proto.rpc_find"] = answer
    assert [await handlers["early"](b"x", "me") for _ in range(5)] == [b"x"] * 5
    with pytest.raises(Full, match="slowly"):
        await handlers["Proto.rpc_find"](b"x", "me")
    assert await handlers["Proto.rpc_find"](b"x", "somebody else") == b"x"
    with pytest.raises(TooLarge, match="pieces"):
        await handlers["Proto.rpc_find"](bytes(gate.MAX_FIND_BYTES + 1), "a third")


async def test_bytes_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: bytes, _peer: object) -> bytes:
        return request

    monkeypatch.setattr(gate, "BYTES_PER_S", 0.0)
    handlers = CallGate({"store": answer})
    await handlers["store"](bytes(int(gate.BYTES_BURST)), "me")
    with pytest.raises(Full):
        await handlers["store"](b"x", "me")
