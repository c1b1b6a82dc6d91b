"""Which nodes a session runs through: the chain with the least expected time per token."""

from __future__ import annotations

import heapq
import itertools
import math
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gridllm.errors import RouteError
from gridllm.ids import ModelRoot, PeerId
from gridllm.planning.coverage import coverage, gaps, spell_ranges
from gridllm.planning.paths import Lane, best_path, expected_ms, lanes_of
from gridllm.wire.record import NodeRecord

WAIT_ADVICE: Final = "wait for one with --wait, or "
MAX_RELAXATIONS: Final = 64  # re-plans until no node occurs twice; real grids need one or two


@dataclass(frozen=True, slots=True)
class Leg:
    """One node's part of a chain: it computes blocks [start, end), which lie within its span."""

    record: NodeRecord
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Legs in the order a token takes them; each begins where the one before it ends."""

    hops: tuple[Leg, ...]
    ms_per_token: float  # expected, for one stream: compute, pushes, and both legs to the client

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """The nodes of the chain, each once."""
        return tuple(leg.record.peer for leg in self.hops)


def plan_chain(
    records: Iterable[NodeRecord],
    start: int,
    end: int,
    *,
    rtt_ms: Mapping[PeerId, float] | None = None,
    banned: Collection[PeerId] = frozenset(),
    model: ModelRoot | None = None,
    dtype: str | None = None,
    tokens: int = 0,
    before: NodeRecord | None = None,
    after: PeerId | None = None,
    seed: int | str | None = None,
    name: str = "",
) -> Chain:
    """The fastest chain of nodes over blocks [start, end); each node occurs at most once.

    A node may be entered and left in the middle of its span. Nodes of different model or dtype never share a chain.
    With a ``seed``, one of the chains nearly as fast as the best (``paths.SPREAD``) is drawn, so that many clients
    spread over the grid; nodes with less room left in their caches count as slower (``paths.BUSY``).

    Args:
        rtt_ms: round trips the caller measured, by peer; others are guessed.
        banned: peers that must not occur.
        model, dtype: only nodes of these; None: whichever gives the best chain.
        tokens: room in the KV cache a node must have.
        before: the living node that pushes into this stretch; None: the client itself.
        after: the living node that this stretch pushes to; None: the client itself.
        name: the model's, for who has to start a node; "": the one that nodes serve unasked.

    Raises:
        RouteError: some blocks are served by no usable node; names them.
    """
    if not 0 <= start < end:
        raise RouteError(f"There is no chain over blocks {start}:{end}; ask for a range that is not empty.")
    known = list(records)
    usable: dict[tuple[ModelRoot, str], list[NodeRecord]] = {}
    for record in known:
        if _unusable(record, banned, model, dtype, tokens) is None:
            usable.setdefault((record.model, record.dtype), []).append(record)
    chains = []
    holes: list[tuple[tuple[int, int], ...]] = []
    for group in usable.values():
        uncovered = gaps(coverage(group, end)[start:], start)
        if uncovered:
            holes.append(uncovered)
        else:
            lanes = lanes_of(group, start, end, rtt_ms or {}, before, after, seed)
            chains.append(_simple_chain(lanes, start, end))
    if not chains:
        holes.append(((start, end),))
        uncovered = min(holes, key=lambda ranges: sum(b - a for a, b in ranges))
        raise _no_route(known, uncovered, banned, model, dtype, tokens, name)
    return min(chains, key=lambda chain: chain.ms_per_token)


def _unusable(
    record: NodeRecord, banned: Collection[PeerId], model: ModelRoot | None, dtype: str | None, tokens: int
) -> str | None:
    """Why a node cannot take part, in words; None when it can."""
    if record.state != "serving":
        return record.state
    if record.peer in banned:
        return "failing"
    if (model is not None and record.model != model) or (dtype is not None and record.dtype != dtype):
        return "of another model or dtype"
    if record.total_tokens < tokens:
        return f"too small for {tokens:,} tokens"
    if record.free_tokens < tokens:
        return "full"
    return None


def _simple_chain(lanes: list[Lane], start: int, end: int) -> Chain:
    """The best chain in which no node occurs twice, by branch and bound.

    ``best_path`` knows no memory, so a node may occur twice in it, around a block x that another node computes. In a
    chain without repetition the node computes x itself, or ends before x, or starts after x: three smaller problems.
    """
    count = itertools.count()  # heap entries never compare beyond it
    first = best_path(lanes, start, end)
    queue = [(first.weight, next(count), lanes, first)]
    for _ in range(MAX_RELAXATIONS):
        _, _, lanes, path = heapq.heappop(queue)
        twice = path.repeated()
        if twice is None:
            return _chain(lanes, path.segments)
        for smaller in _branches(lanes, *twice):
            found = best_path(smaller, start, end)
            if math.isfinite(found.weight):
                heapq.heappush(queue, (found.weight, next(count), smaller, found))
    return _furthest_reaching(lanes, start, end)


def _branches(lanes: list[Lane], node: int, block: int) -> Iterable[list[Lane]]:
    lane = lanes[node]
    yield [other if i == node else other.without(block) for i, other in enumerate(lanes)]
    yield [*lanes[:node], lane.within(lane.start, block), *lanes[node + 1 :]]
    yield [*lanes[:node], lane.within(block + 1, lane.end), *lanes[node + 1 :]]


def _furthest_reaching(lanes: list[Lane], start: int, end: int) -> Chain:
    """A chain of the fewest nodes: never repeats one, used only when the search above runs too long."""
    segments: list[tuple[int, int, int]] = []
    while start < end:
        reaching = [i for i, lane in enumerate(lanes) if lane.record.start <= start]
        best = max(reaching, key=lambda i: lanes[i].record.end)
        stop = min(lanes[best].record.end, end)
        segments.append((best, start, stop))
        start = stop
    return _chain(lanes, tuple(segments))


def _chain(lanes: list[Lane], segments: tuple[tuple[int, int, int], ...]) -> Chain:
    return Chain(tuple(Leg(lanes[i].record, a, b) for i, a, b in segments), expected_ms(lanes, segments))


def without_wait_advice(sentence: str) -> str:
    """A ``RouteError``'s sentence for somebody who waits, or did."""
    return sentence.replace(WAIT_ADVICE, "")


def _no_route(
    known: list[NodeRecord],
    uncovered: tuple[tuple[int, int], ...],
    banned: Collection[PeerId],
    model: ModelRoot | None,
    dtype: str | None,
    tokens: int,
    name: str,
) -> RouteError:
    touching = [r for r in known if any(r.start < b and a < r.end for a, b in uncovered)]
    reasons = Counter(why for r in touching if (why := _unusable(r, banned, model, dtype, tokens)) is not None)
    passed_over = ", ".join(f"{number} {why}" for why, number in sorted(reasons.items()))
    aside = f" (nodes there that cannot be used now: {passed_over})" if passed_over else ""
    first = uncovered[0]
    of, which = (f" of {name}", f"--model {shlex.quote(name)} ") if name else ("", "")
    return RouteError(
        f"No usable node serves blocks {spell_ranges(uncovered)}{of}{aside}; {WAIT_ADVICE}start one: "
        f"gridllm serve {which}--blocks {first[0]}:{first[1]}.",
        uncovered,
    )
