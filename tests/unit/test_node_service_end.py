"""The end of a model's service: it comes whatever is under way, and whoever asks for it twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gridllm.ids import ModelRoot, PeerId, SessionId
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Hop, Open, Ready, Refused, Resume
from tests.unit.memory_grid import ROOT, MemoryGrid, MemoryNode, memory_grid
from tests.unit.notes import until
from tests.unit.tiny_models import LAYERS, Tiny, make_model

SESSION = SessionId(bytes(16))
ENDS_S = 5.0  # it has nothing to wait for


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny) -> AsyncIterator[MemoryGrid]:
    async with memory_grid(tiny.folder, LAYERS, (0, 2, LAYERS)) as grid:
        yield grid


class AnotherModel:
    """Of the same node."""

    model = ModelRoot("cd" * 32)

    def holds(self, session: SessionId) -> bool:
        return False

    def take(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        raise AssertionError(f"{message} is not for it")

    def orphan(self, link: Link) -> None:
        pass

    def callers(self) -> Iterator[tuple[Link, PeerId]]:
        return iter(())

    def metrics(self) -> dict[str, Any]:
        return {}


async def opened(grid: MemoryGrid, node: MemoryNode, heard: list[AnyMessage]) -> tuple[Link, asyncio.Task[None]]:
    """A session of the grid's client at that node, which gives its outputs back."""
    stream = await grid.swarm.open_stream(node.swarm.peer, LINK_STREAM)
    link = Link(stream, on_message=lambda _, message, __: heard.append(message), opener=True)
    running = asyncio.create_task(link.run())
    record = node.record
    link.send(Open(1, SESSION, ROOT, "float32", record.start, record.end, 1, 0, grid.swarm.peer, None, [0]))
    await until(lambda: any(isinstance(one, Ready) for one in heard))
    return link, running


async def test_it_ends_though_a_session_is_being_brought_into_another_shape(grid: MemoryGrid) -> None:
    first, second = grid.listed
    heard: list[AnyMessage] = []
    link, running = await opened(grid, first, heard)
    await first.service._switchboard.plug(AnotherModel())
    session = first.service._sessions.get(SESSION)
    assert session is not None
    session.idle.clear()  # a pass of it is being computed
    link.send(Resume(2, SESSION, 1, grid.swarm.peer, Hop(second.swarm.peer, list(second.swarm.addresses)), [0]))
    await until(lambda: session.epoch == 1)
    ending = asyncio.create_task(first.service.stop())
    await until(lambda: first.service.sessions == 0)
    session.idle.set()
    await asyncio.wait_for(ending, ENDS_S)
    await until(lambda: any(isinstance(one, Refused) and one.call == 2 and one.code == "draining" for one in heard))
    assert not running.done(), "another model of the node uses its links"
    running.cancel()


async def test_it_ends_though_whoever_waits_for_that_is_cancelled(grid: MemoryGrid) -> None:
    node = grid.listed[0]
    heard: list[AnyMessage] = []
    _, running = await opened(grid, node, heard)
    waiting = asyncio.create_task(node.service.stop())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    await asyncio.wait_for(node.service.stop(), ENDS_S)
    assert node.service.sessions == 0
    await asyncio.wait((running,))
    assert isinstance(running.exception(), Exception), "its links end with it"
