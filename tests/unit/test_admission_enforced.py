"""On a grid that asks for certificates nobody works with a node that has none, however well it behaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import torch

from gridllm.admission.certificate import SKEW_S
from gridllm.charter.minimums import Admission
from gridllm.errors import RouteError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.swarm.memory import MemorySwarm
from gridllm.wire.messages import AnyMessage, Hop, Open, Output, Ready, Refused, Resume, RowSlice, Step
from gridllm.wire.tensor import pack
from gridllm_client.terms import Patience
from tests.certificates import altered, amendment, certified, revocation
from tests.unit.closed_grid import ClosedGrid
from tests.unit.memory_grid import ROOT, MemoryNode, grid_of
from tests.unit.reference import Reference, plain_step, step
from tests.unit.tiny_models import LAYERS, Tiny, make_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny) -> AsyncIterator[ClosedGrid]:
    """One admitted node for each third of the model."""
    async with grid_of(ClosedGrid, tiny.folder, LAYERS, (0, 2, 4, 5)) as grid:
        yield grid


def untouched(node: MemoryNode) -> bool:
    """Whether nobody ever opened a stream to the node, nor a session."""
    return not node.swarm.streams and not node.service.sessions and node.engine.metrics().tokens == 0


def bad_certificates(grid: ClosedGrid) -> dict[str, Callable[[PeerId], bytes]]:
    """What a cheater may show, by the rule that it breaks."""
    fair, now = grid.listed[0].swarm.peer, int(time.time())
    return {
        "missing": lambda peer: b"",
        "forged": lambda peer: altered(certified(grid.signed, peer)),
        "holder": lambda peer: certified(grid.signed, fair),
        "expired": lambda peer: certified(grid.signed, peer, issued=now - 9999, expires=now - SKEW_S - 1),
        "role": lambda peer: certified(grid.signed, peer, roles=["seed"]),
        "model": lambda peer: certified(grid.signed, peer, model="cd" * 32),
        "dtype": lambda peer: certified(grid.signed, peer, dtype="bfloat16"),
    }


async def test_outsiders_are_never_used_in_200_generations(grid: ClosedGrid, tiny: Tiny) -> None:
    outsiders = []
    for make in bad_certificates(grid).values():
        # It boasts, serves everything at once, and would be everyone's first choice.
        outsider = await grid.add_outsider(0, LAYERS, blocks_per_s=1e9)
        await grid.announce(outsider, make(outsider.swarm.peer))
        outsiders.append(outsider)
    peers = {node.swarm.peer for node in outsiders}
    for number in range(200):
        session, reference = grid.session(), Reference(tiny, 1)
        session._chain._routes.forget()
        await step(session, reference, [RowSlice(0, 0, 0, 3, 1)], number)
        await step(session, reference, plain_step([0], session.lengths), number)
        assert not peers & {peer for peer, _, _ in session.chain}
        session.close()
    assert all(map(untouched, outsiders))


async def test_where_only_an_outsider_serves_there_is_no_chain(tiny: Tiny) -> None:
    async with grid_of(ClosedGrid, tiny.folder, LAYERS, (0, 2, 4)) as grid:
        outsider = await grid.add_outsider(4, 5)
        with pytest.raises(RouteError, match="4:5"):
            await grid.session(patience=Patience(linger_s=0.0)).open()
        assert untouched(outsider)
        opened = amendment(grid.signed, Admission())
        grid.tell_client(opened)
        grid.tell_nodes(opened)
        session = grid.session()
        await step(session, Reference(tiny, 1), [RowSlice(0, 0, 0, 3, 1)])
        assert session.chain[-1][0] == outsider.swarm.peer, "in an open grid it is as good as any"
        session.close()


class Party:
    """A peer that speaks the protocol by hand."""

    def __init__(self, grid: ClosedGrid, swarm: MemorySwarm | None = None) -> None:
        self.grid = grid
        self.swarm = swarm or grid.network.join(Identity.ephemeral())
        self.heard: list[AnyMessage] = []
        self._links: list[Link] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def link(self, node: MemoryNode) -> Link:
        stream = await self.swarm.open_stream(node.swarm.peer, LINK_STREAM)
        link = Link(stream, on_message=lambda _, message, __: self.heard.append(message), opener=True)
        self._links.append(link)
        self._tasks.append(asyncio.create_task(link.run()))
        return link

    async def hears(self, kind: type[Any]) -> Any:
        """The next message, which must be of that kind."""
        async with asyncio.timeout(60):
            while not self.heard:  # noqa: ASYNC110 - what is waited for is plain data
                await asyncio.sleep(0.005)
        message = self.heard.pop(0)
        assert isinstance(message, kind), message
        return message

    def open(self, **changes: Any) -> Open:
        """A sound Open on the middle node, the party itself upstream."""
        fields: dict[str, Any] = {
            "call": 1,
            "session": bytes(16),
            "model": ROOT,
            "dtype": "float32",
            "start": 2,
            "end": 4,
            "rows": 1,
            "epoch": 1,
            "upstream": self.swarm.peer,
            "next": None,
            "need": [0],
        }
        return Open(**(fields | changes))

    def step(self, hidden_size: int) -> tuple[Step, memoryview]:
        return Step(bytes(16), 1, 1, [RowSlice(0, 0, 0, 1, 1)]), pack(torch.ones(1, hidden_size))

    async def leave(self) -> None:
        for link, task in zip(self._links, self._tasks, strict=True):
            await link.close()
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def party(grid: ClosedGrid, swarm: MemorySwarm | None = None) -> AsyncIterator[Party]:
    someone = Party(grid, swarm)
    try:
        yield someone
    finally:
        await someone.leave()


@pytest.mark.parametrize("rule", ["missing", "forged", "holder", "expired", "role", "model", "dtype"])
async def test_a_node_takes_no_pushes_from_an_outsider(grid: ClosedGrid, rule: str) -> None:
    node, outsider = grid.listed[1], await grid.add_outsider(0, 2)
    raw = bad_certificates(grid)[rule](outsider.swarm.peer)
    async with party(grid) as accomplice, party(grid, outsider.swarm) as pusher:
        link = await accomplice.link(node)
        link.send(accomplice.open(upstream=outsider.swarm.peer, upstream_certificate=raw))
        refused = await accomplice.hears(Refused)
        assert (refused.code, refused.peer) == ("not_admitted", outsider.swarm.peer)
        assert f"({rule})" in refused.message
        message, body = pusher.step(grid.ends.hidden_size)
        (await pusher.link(node)).send(message, body)
        assert (await pusher.hears(Refused)).code == "unknown_session"
    assert node.engine.metrics().tokens == 0


@pytest.mark.parametrize("rule", ["missing", "forged", "holder", "expired", "role", "model", "dtype"])
async def test_a_client_cannot_make_a_node_push_to_an_outsider(grid: ClosedGrid, rule: str) -> None:
    node, outsider = grid.listed[1], await grid.add_outsider(4, 5)
    there = Hop(outsider.swarm.peer, list(outsider.swarm.addresses), bad_certificates(grid)[rule](outsider.swarm.peer))
    async with party(grid) as client:
        link = await client.link(node)
        link.send(client.open(next=there))
        refused = await client.hears(Refused)
        assert (refused.code, refused.peer) == ("not_admitted", outsider.swarm.peer)
        assert f"({rule})" in refused.message
        assert not node.service.sessions
        link.send(client.open())
        await client.hears(Ready)
        link.send(Resume(2, bytes(16), 2, client.swarm.peer, there, [0]))
        assert (await client.hears(Refused)).code == "not_admitted"
        link.send(Resume(3, bytes(16), 3, client.swarm.peer, None, [0]))
        await client.hears(Ready)
    assert untouched(outsider), "it was not even dialled"


async def test_an_admitted_upstream_that_is_revoked_pushes_no_more(grid: ClosedGrid) -> None:
    first, node = grid.listed[:2]
    raw = certified(grid.signed, first.swarm.peer)
    async with party(grid) as client, party(grid, first.swarm) as pusher:
        (await client.link(node)).send(client.open(upstream=first.swarm.peer, upstream_certificate=raw))
        await client.hears(Ready)
        message, body = pusher.step(grid.ends.hidden_size)
        upstream = await pusher.link(node)
        upstream.send(message, body)
        await client.hears(Output)
        assert node.engine.metrics().tokens == 1
        grid.tell_nodes(revocation(grid.signed, first.swarm.peer))
        refused = await client.hears(Refused)
        assert (refused.code, refused.peer, refused.session) == ("not_admitted", first.swarm.peer, bytes(16))
        upstream.send(Step(bytes(16), 1, 2, [RowSlice(0, 0, 1, 1, 1)]), body)
        assert (await client.hears(Refused)).code == "not_admitted"
        assert node.engine.metrics().tokens == 1


async def test_a_node_that_is_not_admitted_itself_opens_nothing(grid: ClosedGrid) -> None:
    node = grid.listed[1]
    del grid.shown[node.swarm.peer]
    async with party(grid) as client:
        (await client.link(node)).send(client.open())
        refused = await client.hears(Refused)
        assert (refused.code, refused.peer) == ("not_admitted", None)
        assert not node.service.sessions
