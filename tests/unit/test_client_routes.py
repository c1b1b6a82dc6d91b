"""What a client remembers of failed nodes, how it measures distances, and how links are shared."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading

import pytest

from gridllm.errors import CallTimeout, PeerLost, RouteError, Unreachable, UsageError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.directory import TTL_S
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Resume
from gridllm.wire.record import NodeRecord
from gridllm_client.links import LinkPool
from gridllm_client.listing import STALE_S
from gridllm_client.routes import Routes
from gridllm_client.runtime import Runtime
from tests.unit.notes import until

ROOT = ModelRoot("cd" * 32)


def record(peer: str, start: int = 0, end: int = 4, since: float = 1.0, **fields) -> NodeRecord:
    base = {
        "version": "0",
        "state": "serving",
        "dtype": "float32",
        "blocks_per_s": 100.0,
        "free_tokens": 1000,
        "total_tokens": 1000,
        "next_hop_ms": {},
        "addresses": [],
    }
    return NodeRecord(peer=PeerId(peer), model=ROOT, start=start, end=end, since=since, **(base | fields))


class Listed:
    """A directory that can be changed, and counts how often it is read."""

    def __init__(self, *records: NodeRecord) -> None:
        self.records = list(records)
        self.reads = 0
        self.silent = False
        self.announced: dict[str, float] = {}
        self.strangers: list[NodeRecord] = []  # not admitted

    def announced_at(self, peer: PeerId) -> float:
        return self.announced.get(peer, 0.0)

    def shut_out(self, model: ModelRoot) -> list[NodeRecord]:
        return self.strangers

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.silent:
            raise Unreachable("None of the 3 members known here answered.")
        return list(self.records)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


def routes_over(listed: Listed, network: MemoryNetwork, clock: Clock) -> Routes:
    return Routes(
        listed, LinkPool(network.join(Identity.ephemeral())), ROOT, "float32", clock=clock, wall_clock=lambda: 110.0
    )


async def test_a_failed_node_is_left_out_until_there_is_no_other(network: MemoryNetwork):
    listed, clock = Listed(record("peer-aaaa"), record("peer-bbbb")), Clock()
    routes = routes_over(listed, network, clock)
    await routes.plan(0, 4)
    routes.failed(PeerId("peer-aaaa"))
    for _ in range(5):
        assert (await routes.plan(0, 4))[0].record.peer == "peer-bbbb"
    listed.records.pop()
    clock.now += 10
    routes.failed(PeerId("peer-aaaa"))
    assert (await routes.plan(0, 4))[0].record.peer == "peer-aaaa"
    with pytest.raises(RouteError, match="0:4"):
        await routes.plan(0, 4, desperate=False)


async def test_a_dead_nodes_last_record_is_not_believed(network: MemoryNetwork):
    a, b, c = (record(f"peer-{name * 4}") for name in "abc")
    listed, clock = Listed(a, b, c), Clock()
    routes = routes_over(listed, network, clock)
    await routes.plan(0, 4)
    routes.failed(a.peer)
    routes.failed(b.peer)
    clock.now += TTL_S - 10
    assert (await routes.plan(0, 4))[0].record == c, "dialling a dead node costs seconds"
    listed.records.remove(c)
    clock.now += 5
    with pytest.raises(RouteError):
        await routes.plan(0, 4, desperate=False)
    listed.announced[b.peer] = 111.0
    assert (await routes.plan(0, 4))[0].record == b, "it has announced itself since, and is tried before the other"
    assert (await routes.plan(0, 4, desperate=False))[0].record == b


async def test_while_the_directory_is_silent_what_was_read_last_is_used(network: MemoryNetwork):
    """As long as an announcement lasts: a network that stands still for seconds ends no generation that has links."""
    listed, clock = Listed(record("peer-aaaa")), Clock()
    routes = routes_over(listed, network, clock)
    await routes.plan(0, 4)
    listed.silent = True
    clock.now += STALE_S - 1
    assert (await routes.plan(0, 4))[0].record.peer == "peer-aaaa"
    assert listed.reads == 2, "it asked"
    with pytest.raises(Unreachable):
        await routes.plan(0, 8)
    clock.now += 2
    with pytest.raises(Unreachable):
        await routes.plan(0, 4)
    listed.silent = False
    await routes.plan(0, 4)
    listed.silent = True
    routes.forget()  # nodes may be admitted no longer
    with pytest.raises(Unreachable):
        await routes.plan(0, 4)


async def test_of_nodes_that_may_be_dead_each_gets_its_turn(network: MemoryNetwork):
    listed, clock, now = Listed(record("peer-aaaa"), record("peer-bbbb")), Clock(), iter(range(100))
    pool = LinkPool(network.join(Identity.ephemeral()))
    routes = Routes(listed, pool, ROOT, "float32", clock=clock, wall_clock=lambda: next(now))
    await routes.plan(0, 4)
    for peer in ("peer-aaaa", "peer-bbbb"):
        routes.failed(PeerId(peer))
    for expected in ("peer-aaaa", "peer-bbbb", "peer-aaaa"):
        chosen = (await routes.plan(0, 4, seed=1))[0].record.peer
        assert chosen == expected, "the one that failed last is tried last"
        routes.failed(chosen)


async def test_a_node_lost_while_no_session_uses_its_link_counts_as_failed(network: MemoryNetwork):
    node = network.join(Identity.ephemeral())

    async def serve(stream) -> None:
        link = Link(stream, on_message=lambda *_: None, opener=False)
        with contextlib.suppress(PeerLost):
            await link.run()

    await node.serve_streams(LINK_STREAM, serve)
    pool = LinkPool(network.join(Identity.ephemeral()))
    routes = Routes(Listed(record(node.peer)), pool, ROOT, "float32")
    await routes.plan(0, 4)
    link = await pool.get(node.peer, node.addresses)
    await link.close()
    assert (await routes.plan(0, 4, desperate=False))[0].record.peer == node.peer, "closed by ourselves"
    await pool.get(node.peer, node.addresses)
    network.kill(node.peer)
    await until(lambda: pool.known(node.peer) is None)
    await asyncio.sleep(0.05)
    with pytest.raises(RouteError):
        await routes.plan(0, 4, desperate=False)
    await pool.close()


async def test_a_node_that_was_started_anew_is_trusted_again(network: MemoryNetwork):
    listed, clock = Listed(record("peer-aaaa")), Clock()
    routes = routes_over(listed, network, clock)
    await routes.plan(0, 4)
    routes.failed(PeerId("peer-aaaa"))
    with pytest.raises(RouteError):
        await routes.plan(0, 4, desperate=False)
    listed.records = [record("peer-aaaa", since=2.0)]
    assert await routes.plan(0, 4, desperate=False)


async def test_the_directory_is_read_every_few_seconds_only(network: MemoryNetwork):
    listed, clock = Listed(record("peer-aaaa")), Clock()
    routes = routes_over(listed, network, clock)
    await asyncio.gather(*(routes.plan(0, 4) for _ in range(8)))
    assert listed.reads == 1
    clock.now += 5
    await routes.plan(0, 4)
    assert listed.reads == 2
    listed.records = [record("peer-bbbb")]
    routes.failed(PeerId("peer-aaaa"))
    assert (await routes.plan(0, 4))[0].record.peer == "peer-bbbb"


async def test_the_nearest_of_many_is_measured_and_chosen(network: MemoryNetwork):
    swarms = [network.join(Identity.ephemeral()) for _ in range(4)]

    async def echo(peer: PeerId, payload: bytes) -> bytes:
        await asyncio.sleep(0.3)
        return payload

    async def quick(peer: PeerId, payload: bytes) -> bytes:
        return payload

    for swarm in swarms[1:]:
        await swarm.serve_calls("gridllm.ping", echo)
    await swarms[0].serve_calls("gridllm.ping", quick)
    listed = Listed(*(record(s.peer, addresses=list(s.addresses)) for s in swarms))
    routes = Routes(listed, LinkPool(network.join(Identity.ephemeral())), ROOT, "float32")
    assert (await routes.plan(0, 4, measure=True))[0].record.peer == swarms[0].peer
    for swarm in swarms:
        await swarm.close()


async def test_links_are_shared_and_opened_once(network: MemoryNetwork):
    node, opened = network.join(Identity.ephemeral()), []

    async def accept(stream) -> None:
        opened.append(stream)
        link = Link(stream, on_message=lambda *_: None, opener=False)
        with contextlib.suppress(PeerLost):  # the client hangs up
            await link.run()

    await node.serve_streams(LINK_STREAM, accept)
    pool = LinkPool(network.join(Identity.ephemeral()))
    links = await asyncio.gather(*(pool.get(node.peer, node.addresses) for _ in range(8)))
    assert len(opened) == len(set(map(id, links))) == 1
    request = Resume(0, bytes(16), 1, str(pool.swarm.peer), None, [0])
    with pytest.raises(CallTimeout, match="did not get a session ready"):
        await links[0].ask(request, timeout_s=0.05)
    await pool.close()
    assert links[0].lost is not None
    with pytest.raises(Unreachable):
        await pool.get(Identity.ephemeral().peer, ())
    await node.close()


def test_a_runtime_ends_from_anywhere():
    async def nothing() -> None:
        return

    runtime = Runtime()

    async def from_inside() -> None:
        runtime.close(nothing(), 1.0)

    runtime.run(from_inside())
    for _ in range(1200):
        if not any(thread.name == "gridllm-client" for thread in threading.enumerate()):
            break
        threading.Event().wait(0.05)
    assert not any(thread.name == "gridllm-client" for thread in threading.enumerate())
    with pytest.raises(UsageError, match="closed"):
        runtime.run(nothing())
    runtime.close(nothing(), 1.0)
    runtime.soon(print)
    gc.collect()


def test_errors_reach_the_caller_of_a_stream():
    runtime = Runtime()

    async def items():
        yield 1
        raise UsageError("enough")

    got = []
    with pytest.raises(UsageError, match="enough"):
        got.extend(runtime.iterate(items()))

    async def nothing() -> None:
        return

    runtime.close(nothing(), 1.0)


async def test_blocks_whose_nodes_are_not_admitted_say_so(network: MemoryNetwork) -> None:
    listed = Listed(record("a", 0, 2))
    listed.strangers = [record("b", 2, 4)]
    with pytest.raises(RouteError, match=r"blocks 2:4.* 1 node that is not admitted; gridllm status --all") as caught:
        await routes_over(listed, network, Clock()).plan(0, 4)
    assert caught.value.uncovered == ((2, 4),)
    listed.strangers = [record("b", 0, 2)]
    with pytest.raises(RouteError) as caught:
        await routes_over(listed, network, Clock()).plan(0, 4)
    assert "admitted" not in str(caught.value)
