"""Which nodes serve much slower than certified, as far as clients tell. Pure: reports in, suspicions out.

Clients may lie and identities cost nothing, so all of one address count as one client (``reports``), and a suspicion is
no verdict: it leads to a measurement, and to no more than one an hour. Nor can praise protect a node for ever: every
renewal measures it.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gridllm.admission.figures import Figures
from gridllm.admission.fitness import MAX_RATIO
from gridllm.ids import PeerId

WINDOW_S: Final = 24 * 3600.0  # a certificate's usual life: what was served before says little of the machine now
LEAST_SESSIONS: Final = 20  # fewer may all have met one bad hour
LEAST_CLIENTS: Final = 5  # fewer may all sit behind one bad line
SUSPECT_BELOW: Final = 0.5  # of the certified speed; honest nodes stay above it with others' work beside ours
AGAIN_AFTER_S: Final = 3600.0  # a measurement takes a node half a minute: a hundredth of its time at most
MAX_NODES: Final = 1024
CLIENTS_PER_NODE: Final = 64
SESSIONS_PER_CLIENT: Final = 8  # the newest; so no client outshouts the others. In all at most 70 MB
BATCH: Final = 8  # sessions in a pass behind ``Figures.batch_blocks_per_s``


@dataclass(frozen=True, slots=True)
class Reading:
    """What one report says of one node of its chain. Times by the authority's clock."""

    began: float  # seconds; the session's stretch that was reported
    ended: float
    ratio: float  # served speed / certified speed (``gridllm.admission.fitness.ratio``)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a node is to be measured again."""

    peer: PeerId
    ratio: float  # the median over clients of each client's median
    sessions: int
    clients: int

    def sentence(self) -> str:
        """For the terminal, and for the node's operator."""
        return (
            f"{self.clients} clients saw it serve at {self.ratio:.0%} of its certified speed in {self.sessions} "
            "sessions"
        )


@dataclass(slots=True)
class _Node:
    each_more: float = 0.0  # by how much one more session slows each down, by the certificate
    clients: OrderedDict[str, deque[Reading]] = field(default_factory=OrderedDict)
    measured_at: float = float("-inf")


class Fitness:
    """A fold over reports: for each node, a sliding window of what clients saw."""

    def __init__(
        self,
        *,
        window_s: float = WINDOW_S,
        least_sessions: int = LEAST_SESSIONS,
        least_clients: int = LEAST_CLIENTS,
        suspect_below: float = SUSPECT_BELOW,
        again_after_s: float = AGAIN_AFTER_S,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self._window_s = window_s
        self._least_sessions = least_sessions
        self._least_clients = least_clients
        self._suspect_below = suspect_below
        self._again_after_s = again_after_s
        self._max_nodes = max_nodes
        self._nodes: OrderedDict[PeerId, _Node] = OrderedDict()  # the one heard of longest ago first

    def add(self, peer: PeerId, client: str, reading: Reading, figures: Figures) -> None:
        """Take in what ``client``, or all at one address, say of ``peer``, which is certified at ``figures``."""
        node = self._node(peer)
        node.each_more = each_more(figures)
        readings = node.clients.setdefault(client, deque(maxlen=SESSIONS_PER_CLIENT))
        node.clients.move_to_end(client)
        readings.append(reading)
        if len(node.clients) > CLIENTS_PER_NODE:
            node.clients.popitem(last=False)

    def judge(self, peer: PeerId, now_s: float) -> Suspicion | None:
        """The suspicion against ``peer``, if there is enough to hold one and it was not measured just now."""
        node = self._nodes.get(peer)
        if node is None or now_s - node.measured_at < self._again_after_s:
            return None
        self._forget_old(node, now_s)
        sessions = sum(map(len, node.clients.values()))
        if sessions < self._least_sessions or len(node.clients) < self._least_clients:
            return None
        middle = statistics.median(statistics.median(r.ratio for r in said) for said in node.clients.values())
        if middle < self._suspect_below:  # only then is the costlier look worth it
            middle = served(node.clients.values(), node.each_more)
        return Suspicion(peer, middle, sessions, len(node.clients)) if middle < self._suspect_below else None

    def measured(self, peer: PeerId, now_s: float) -> None:
        """Its certificate is new, or about to be: what was said so far concerns the old one."""
        node = self._node(peer)
        node.clients.clear()
        node.measured_at = now_s

    def __len__(self) -> int:
        """Readings held."""
        return sum(len(readings) for node in self._nodes.values() for readings in node.clients.values())

    def _node(self, peer: PeerId) -> _Node:
        node = self._nodes.setdefault(peer, _Node())
        self._nodes.move_to_end(peer)
        if len(self._nodes) > self._max_nodes:
            self._nodes.popitem(last=False)
        return node

    def _forget_old(self, node: _Node, now_s: float) -> None:
        for client, readings in list(node.clients.items()):
            while readings and readings[0].ended < now_s - self._window_s:
                readings.popleft()
            if not readings:
                del node.clients[client]


def served(clients: Iterable[Iterable[Reading]], each_more: float) -> float:
    """The median over clients of each client's median ratio, sessions that shared the node excused as certified."""
    mine = [list(readings) for readings in clients]
    every = [reading for readings in mine for reading in readings]

    def excused(reading: Reading) -> float:
        return min(MAX_RATIO, reading.ratio * slowed(crowd(reading, every), each_more))

    return statistics.median(statistics.median(map(excused, readings)) for readings in mine)


def slowed(sessions: float, each_more: float) -> float:
    """By which factor that many sessions at once lengthen a step of each, on a machine as certified.

    The pass that they share is longer, and a step that arrives during a pass waits for its end, unless it is alone.
    """
    return (1 + each_more * (sessions - 1)) * (2 - 1 / sessions)


def crowd(reading: Reading, every: Iterable[Reading]) -> float:
    """How many of the reported sessions used the node meanwhile, itself included, on average; at most ``BATCH``."""
    length = reading.ended - reading.began
    if length <= 0:
        return 1.0
    shared = sum(
        max(0.0, min(reading.ended, other.ended) - max(reading.began, other.began))
        for other in every
        if other is not reading
    )
    return min(float(BATCH), 1 + shared / length)


def each_more(figures: Figures) -> float:
    """By what share of a lone step's time each further session in the pass lengthens it, as certified; 0 … 1.

    A pass of eight takes 8 / batch figure for a block, one alone 1 / decode figure. Sessions a node serves side by side
    wait for each other, which is no fault of its.
    """
    if figures.batch_blocks_per_s <= 0:
        return 0.0
    whole = BATCH * figures.decode_blocks_per_s / figures.batch_blocks_per_s
    return min(1.0, max(0.0, (whole - 1) / (BATCH - 1)))
