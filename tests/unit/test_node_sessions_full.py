"""A node whose room is taken by sessions that are silent gives it to those who ask for it, class by class."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from gridllm.engine.cache import SessionCache, TokenBudget
from gridllm.engine.runner import Engine
from gridllm.errors import Full
from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.node.service import sessions
from gridllm.node.service.session import NodeSession
from gridllm.node.service.sessions import SILENT_S, Sessions
from gridllm.swarm.link import Link
from gridllm.wire.messages import Open
from tests.unit import virtual_time

ROOT = ModelRoot("ab" * 32)


class Room:
    """An engine that computes nothing and has so many tokens of cache."""

    def __init__(self, tokens: int) -> None:
        self.span = SimpleNamespace(start=0, end=2, hidden_size=8, dtype=torch.float32)
        self.budget = TokenBudget(tokens)

    def open_session(self, rows: int, start: int, end: int) -> SessionCache:
        return SessionCache(cast(Any, [None] * rows), start, end)

    def close_session(self, cache: SessionCache) -> None:
        for capacity in cache.capacities:
            self.budget.release(capacity)


class House:
    """A node's sessions."""

    def __init__(self, tokens: int) -> None:
        self.room = Room(tokens)
        self.closed: list[SessionId] = []
        self.sessions = Sessions(cast(Engine, self.room), ROOT, lambda one, _: self.closed.append(one.id))

    def open(self, number: int, priority: int = 0, *, tokens: int = 64, uses: int = 64) -> NodeSession:
        """Of a client of its own, which computes ``uses`` tokens."""
        peer = PeerId(f"client {number}")
        asked = Open(1, bytes([number]) * 16, ROOT, "float32", 0, 2, 1, 0, peer, None, [0], tokens)
        made = self.sessions.open(asked, cast(Link, SimpleNamespace(peer=peer)), priority)
        made.terms.priority = priority
        made.cache.capacities[0] = self.room.budget.grow(0, uses)
        return made


def test_the_longest_silent_gives_way_to_who_needs_the_room() -> None:
    async def story() -> None:
        house = House(3 * 64)
        first = house.open(1)
        await asyncio.sleep(1)
        second, third = house.open(2), house.open(3)
        with pytest.raises(Full, match="try another"):
            house.open(4)
        await asyncio.sleep(SILENT_S)
        third.used_at = asyncio.get_running_loop().time()
        house.open(4)
        assert house.closed == [first.id]
        with pytest.raises(Full):
            house.open(5, tokens=2 * 64, uses=2 * 64)  # one silent session has not that much
        assert house.closed == [first.id]
        second.waiting = 1  # a step of it is being computed
        await asyncio.sleep(1)
        with pytest.raises(Full):
            house.open(5)
        second.waiting = 0
        house.open(5)
        assert house.closed == [first.id, second.id]

    virtual_time.run(story())


def test_who_pays_does_not_give_way_to_who_does_not() -> None:
    async def story() -> None:
        house = House(2 * 64)
        paying, free = house.open(1, 3), house.open(2, 0)
        assert house.sessions.silent_tokens == 0
        await asyncio.sleep(SILENT_S + 1)
        assert house.sessions.silent_tokens == 64  # what anybody may have, so that clients come and ask
        free.used_at = asyncio.get_running_loop().time()
        with pytest.raises(Full):
            house.open(3, 0)
        house.open(3, 3)
        assert house.closed == [paying.id]

    virtual_time.run(story())


def test_all_places_are_held_by_the_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)

    async def story() -> None:
        house = House(1024)
        first = house.open(1)
        house.open(2)
        with pytest.raises(Full, match="holds 2 sessions"):
            house.open(3)
        await asyncio.sleep(SILENT_S + 1)
        house.open(3)
        assert house.closed == [first.id]
        await asyncio.sleep(SILENT_S + 1)
        room = len(house.sessions)
        assert house.sessions.get(SessionId(bytes([2]) * 16)) is not None and room == 2  # nobody came: it stays

    virtual_time.run(story())
