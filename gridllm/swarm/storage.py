"""What this node keeps of others' records, and no more: hivemind's storage takes whatever passes the validator.

A key's records travel in one answer, which hivemind cannot send above 4 MB; so one peer that stored thousands of
records of its own under the directory's keys would make them unreadable for all.
"""

from __future__ import annotations

import heapq
import time
from typing import Any, Final

from gridllm.swarm.hivemind_parts import DHTLocalStorage
from gridllm.swarm.validator import KEY_HEX_CHARS

OWNER_RECORDS: Final = 4  # of one owner under one key
KEY_BYTES: Final = 1024**2  # of all records under one key
TOTAL_BYTES: Final = 64 * 1024**2
MAX_KEYS: Final = 16_384
RECORD_BYTES: Final = 512  # what a record takes beside its value
RECOUNT_S: Final = 1.0
HEAP_SLACK: Final = 64


class BoundedStorage(DHTLocalStorage):
    """Records by key and subkey. A new one is refused where there is no room; one that replaces another never is."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0  # at least what is held; expired records are taken off by counting anew
        self._counted_at = 0.0

    def store(self, key: Any, value: Any, expiration_time: float, subkey: Any = None) -> bool:
        """As hivemind's; a plain value, which would hide everyone's records, is refused."""
        return subkey is not None and self.store_subkey(key, subkey, value, expiration_time)

    def store_subkey(self, key: Any, subkey: Any, value: Any, expiration_time: float) -> bool:
        """As hivemind's, within bounds."""
        held = self.get(key)
        records = {} if held is None else held.value.data
        previous = records.get(subkey)
        if previous is not None and previous.expiration_time >= expiration_time:
            return False  # hivemind would let an old record, sent again, end the newer one's life
        if previous is None and not self._has_room(records, subkey, len(value)):
            return False
        stored = bool(super().store_subkey(key, subkey, value, expiration_time))
        if stored:
            self._bytes += len(value) + RECORD_BYTES
            _compact(self)
            _compact(self.data[key].value)
        return stored

    def _has_room(self, records: dict[Any, Any], subkey: str, size: int) -> bool:
        owner = subkey[:KEY_HEX_CHARS]
        if sum(1 for other in records if other[:KEY_HEX_CHARS] == owner) >= OWNER_RECORDS:
            return False
        if _size(records) + size + RECORD_BYTES > KEY_BYTES or (not records and len(self.data) >= MAX_KEYS):
            return False
        if self._bytes + size + RECORD_BYTES > TOTAL_BYTES and time.monotonic() - self._counted_at > RECOUNT_S:
            self._counted_at = time.monotonic()
            self._bytes = sum(_size(held.value.data) for _, held in self.items())
        return self._bytes + size + RECORD_BYTES <= TOTAL_BYTES


class NoStorage(DHTLocalStorage):
    """Keeps nothing. hivemind prefers what others put into its cache to the records themselves; we do without."""

    def store(self, key: Any, value: Any, expiration_time: float, subkey: Any = None) -> bool:
        """Refuse."""
        return False

    def store_subkey(self, key: Any, subkey: Any, value: Any, expiration_time: float) -> bool:
        """Refuse."""
        return False


def bound(protocol: Any) -> None:
    """Give a DHT protocol that has just started these storages; what it holds already is taken over."""
    storage = BoundedStorage()
    for key, held in protocol.storage.items():
        for subkey, record in held.value.items():
            storage.store_subkey(key, subkey, record.value, record.expiration_time)
    protocol.storage, protocol.cache = storage, NoStorage()


def _size(records: dict[Any, Any]) -> int:
    return sum(len(record.value) + RECORD_BYTES for record in records.values())


def _compact(storage: Any) -> None:
    """Each refresh leaves an entry in hivemind's heap, until the refreshed record would have expired."""
    if len(storage.expiration_heap) > 2 * len(storage.data) + HEAP_SLACK:
        storage.expiration_heap[:] = storage.key_to_heap.values()
        heapq.heapify(storage.expiration_heap)
