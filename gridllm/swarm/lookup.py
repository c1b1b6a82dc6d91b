"""Finding the peers nearest to a key, and what they hold: the DHT's reading half, for a network where some are frozen.

hivemind's own search waits out the full time-out of every silent peer, one after the other; when a node freezes, that
is when the directory is needed most. This search asks the nearest peers at once, goes on without those that lag, and
remembers them for a while.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

WIDTH: Final = 8  # so many of the nearest peers are asked; records lie on the nearest 5
LAG_S: Final = 0.5  # when some have answered, the others get this much longer
SHUN_S: Final = 15.0  # a peer that lagged is left out for so long, or until it answers after all

NodeId = Any  # hivemind's DHTID: an int with a distance
Peer = Any  # hivemind's PeerID


@dataclass(slots=True)
class Found:
    """What a search brought."""

    records: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # subkey → signed value, expiration
    nearest: list[Peer] = field(default_factory=list)  # peers that answered, nearest to the key first
    known: int = 0  # peers there were to ask

    def merge(self, dictionary: Any) -> None:
        """Take in one peer's answer; the record that expires last wins."""
        for subkey, (signed, expires_at) in dictionary.items():
            if subkey not in self.records or self.records[subkey][1] < expires_at:
                self.records[subkey] = signed, expires_at


class Lookup:
    """Searches through one DHT protocol; remembers who lagged."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._shunned: dict[Peer, float] = {}  # → loop time when it is asked again
        self._lagging: dict[asyncio.Task[Any], Peer] = {}

    async def find(self, key_id: NodeId) -> Found:
        """Ask the peers nearest to ``key_id`` for its records."""
        found, search = Found(), _Search(key_id, self._protocol.node_id)
        held = self._protocol.storage.get(key_id)
        if held is not None and not isinstance(held.value, bytes):
            found.merge(held.value)
        search.learn(dict(self._protocol.routing_table.get_nearest_neighbors(key_id, 2 * WIDTH, exclude=search.own)))
        found.known = len(search.peers)
        while True:
            for node_id in search.next(self._shunned_now()):
                search.pending[asyncio.create_task(self._protocol.call_find(search.peers[node_id], [key_id]))] = node_id
            if not search.pending:
                break
            timeout_s = LAG_S if search.answered else None  # each call has a time-out of its own
            done, _ = await asyncio.wait(search.pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._take(search, found, search.pending.pop(task), task.result())
            if not done:
                self._leave_behind(search)
        found.nearest = [search.peers[node_id] for node_id in search.by_distance(search.answered)]
        return found

    def _take(self, search: _Search, found: Found, node_id: NodeId, answer: Any) -> None:
        peer = search.peers[node_id]
        if not answer:
            search.failed.add(node_id)
            return
        self._shunned.pop(peer, None)
        search.answered.add(node_id)
        held, nearest = answer[search.key_id]
        search.learn(nearest)
        if held is not None:
            found.merge(held.value)

    def _leave_behind(self, search: _Search) -> None:
        """Go on without those that lag; their calls end by themselves, and then hivemind forgets them."""
        until = asyncio.get_running_loop().time() + SHUN_S
        for task, node_id in search.pending.items():
            search.failed.add(node_id)
            self._shunned[search.peers[node_id]] = until
            self._lagging[task] = search.peers[node_id]
            task.add_done_callback(self._late)
        search.pending.clear()

    def _late(self, task: asyncio.Task[Any]) -> None:
        """A busy peer answers late, a frozen one never: only the latter stays shunned."""
        peer = self._lagging.pop(task)
        if not task.cancelled() and task.exception() is None and task.result():
            self._shunned.pop(peer, None)

    def _shunned_now(self) -> set[Peer]:
        now = asyncio.get_running_loop().time()
        self._shunned = {peer: until for peer, until in self._shunned.items() if until > now}
        return set(self._shunned)


class _Search:
    """Who is known, asked, answered and failed in one search."""

    def __init__(self, key_id: NodeId, own: NodeId) -> None:
        self.key_id = key_id
        self.own = own
        self.peers: dict[NodeId, Peer] = {}
        self.asked: set[NodeId] = set()
        self.answered: set[NodeId] = set()
        self.failed: set[NodeId] = set()
        self.pending: dict[asyncio.Task[Any], NodeId] = {}

    def learn(self, peers: dict[NodeId, Peer]) -> None:
        """Peers that someone named."""
        for node_id, peer in peers.items():
            if node_id != self.own:
                self.peers.setdefault(node_id, peer)

    def by_distance(self, node_ids: set[NodeId]) -> list[NodeId]:
        """Nearest to the key first."""
        return sorted(node_ids, key=self.key_id.xor_distance)

    def next(self, shunned: set[Peer]) -> list[NodeId]:
        """Whom to ask now: those of the ``WIDTH`` nearest promising peers not asked yet."""
        promising = {n for n, peer in self.peers.items() if n not in self.failed and peer not in shunned}
        fresh = [n for n in self.by_distance(promising)[:WIDTH] if n not in self.asked]
        if not fresh and not self.answered and not self.pending:  # better ask those that lagged than nobody
            fresh = [n for n in self.by_distance(set(self.peers))[:WIDTH] if n not in self.asked]
        self.asked.update(fresh)
        return fresh
