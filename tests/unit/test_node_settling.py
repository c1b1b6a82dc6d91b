"""Nodes that start at the same moment, on a machine where looking and announcing take seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from planning_records import node, peer

from gridllm.node import hosting, surroundings
from gridllm.node.surroundings import Surroundings
from gridllm.planning.placement import BlockRange, choose_span
from gridllm.wire.record import NodeRecord

BLOCKS, ROOM = 8, 4
ME = 1
LOOK_S, ANNOUNCE_S = 4.0, 2.0


class SlowPresence:
    """On a clock of its own; ``others`` are seen from the second look on."""

    def __init__(self, *later: NodeRecord) -> None:
        self.now = 100.0
        self.since = self.now
        self.span: BlockRange = (0, 0)
        self.announced: list[tuple[float, BlockRange]] = []
        self.looks = 0
        self._later = later

    def record(self) -> NodeRecord:
        return node(ME, *self.span)

    async def others(self) -> list[NodeRecord]:
        self.looks += 1
        self.now += LOOK_S
        return [*self._later] if self.looks > 1 else []

    async def announce(self) -> None:
        self.announced.append((self.since, self.span))
        self.now += ANNOUNCE_S


async def settled(presence: SlowPresence, monkeypatch: pytest.MonkeyPatch) -> tuple[BlockRange, list[float]]:
    """The span it comes to, and how long it waited after each announcement."""
    waited: list[float] = []

    async def sleep(delay_s: float) -> None:
        waited.append(delay_s)
        presence.now += delay_s

    clock = SimpleNamespace(time=lambda: presence.now, monotonic=lambda: presence.now)
    with monkeypatch.context() as patched:
        patched.setattr(hosting, "time", clock)
        patched.setattr(hosting, "asyncio", SimpleNamespace(sleep=sleep))
        patched.setattr(hosting, "_capacity", lambda *_: ROOM)
        wishes: Any = SimpleNamespace(blocks=None)
        span = await hosting._settle(BLOCKS, None, 0, wishes, presence)  # type: ignore[arg-type]
    return span, waited


async def test_who_announced_while_this_node_looked_around_chose_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot know of this one, and may have settled by the time that this one can be seen."""
    liked = choose_span([], BLOCKS, ROOM, peer(ME))
    presence = SlowPresence(node(2, *liked, state="joining", blocks_per_s=0.0, since=102.0))
    span, _ = await settled(presence, monkeypatch)
    assert presence.announced == [(104.0, liked), (104.0, span)]
    assert {liked, span} == {(0, 4), (4, 8)}


async def test_where_announcing_is_slow_others_get_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    span, waited = await settled(SlowPresence(), monkeypatch)
    assert waited == [hosting.SETTLE_TIMES * ANNOUNCE_S]
    assert span == choose_span([], BLOCKS, ROOM, peer(ME))
    assert hosting.settle_s(0.001) == hosting.SETTLE_S


async def test_two_that_chose_alike_part_soon_and_later_looks_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    class Twins:
        """Another node comes to serve the same blocks, after two looks."""

        def __init__(self, looks: int = 0) -> None:
            self.looks = looks

        def record(self) -> NodeRecord:
            return node(ME, 0, ROOM)

        async def others(self) -> list[NodeRecord]:
            self.looks += 1
            return [node(2, 0, ROOM)] if self.looks > 2 else [node(2, ROOM, BLOCKS)]

    monkeypatch.setattr(surroundings, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(surroundings, "should_move", lambda others, *_, **__: None if others[0].start else (4, 8))
    around = Surroundings(None, None)  # type: ignore[arg-type]
    assert await around.needed_elsewhere(Twins(), BLOCKS, lambda: False) == (4, 8)  # type: ignore[arg-type]
    assert await around.needed_elsewhere(Twins(2), BLOCKS, lambda: False) == (4, 8)  # type: ignore[arg-type]
    bounds = [surroundings.FIRST_REBALANCE_S, *[surroundings.REBALANCE_S] * 3]
    assert len(pauses) == 4, "and who has moved does not look so soon again"
    assert all(low <= pause <= high for pause, (low, high) in zip(pauses, bounds, strict=True))
    assert surroundings.FIRST_REBALANCE_S[1] < surroundings.REBALANCE_S[0]
