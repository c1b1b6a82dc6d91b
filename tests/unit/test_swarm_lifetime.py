"""Waits end in time; time in which this process stood still is not held against a peer."""

from __future__ import annotations

import asyncio
import time

import pytest

from gridllm.errors import CallTimeout
from gridllm.ids import PeerId
from gridllm.swarm.first_peers import reach_any
from gridllm.swarm.lifetime import Lifetime

PEER = PeerId("peer")
TIMEOUT_S = 0.5


async def answer() -> str:
    """What came while nothing here ran, and takes a few turns of the loop to be read."""
    for _ in range(3):
        await asyncio.sleep(0.01)
    return "here"


def stand_still() -> None:
    time.sleep(TIMEOUT_S + 0.3)  # as while a thread imports torch


async def test_an_answer_that_came_while_this_process_stood_still_is_read() -> None:
    life = Lifetime()
    asyncio.get_running_loop().call_later(0.005, stand_still)
    assert await life.within(TIMEOUT_S, PEER, answer()) == "here"


async def test_who_does_not_answer_is_not_waited_for_longer() -> None:
    with pytest.raises(CallTimeout, match="did not answer within 0.01 s"):
        await Lifetime().within(0.01, PEER, asyncio.Event().wait())


async def test_a_first_peer_that_answered_meanwhile_is_reached() -> None:
    life = Lifetime()

    async def connect(peer: PeerId, addresses: tuple[str, ...], *, timeout_s: float) -> None:
        await life.within(TIMEOUT_S, peer, answer())

    asyncio.get_running_loop().call_later(0.005, stand_still)
    assert await reach_any(connect, [(PEER, "/ip4/203.0.113.7/tcp/31337")]) == [PEER]
