"""Continued fitness from end to end, in memory: clients report, a node is measured again, its certificate shrinks.

A node's speed is what the test makes it sleep, so that a busy machine does not decide the outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from gridllm.admission.admit import admit
from gridllm.admission.cards import cards_key
from gridllm.admission.examination.stages import Examination, Examined
from gridllm.admission.figures import Figures
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.fetch import serve_charter
from gridllm.charter.minimums import Admission, Minimums
from gridllm.engine import runner
from gridllm.errors import CertificateError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.node.renewal import Renewal
from gridllm.node.standing import Standing
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_bootstrap.fitness.continued import continued_fitness
from gridllm_bootstrap.fitness.fitness import Fitness
from gridllm_bootstrap.fitness.outcomes import FitnessEvent
from gridllm_bootstrap.limits import Limits
from gridllm_bootstrap.measuring.authority import Authority, Event
from gridllm_bootstrap.measuring.dialback import DialBack
from gridllm_bootstrap.measuring.office import NOT_FALSE
from gridllm_client.links import LinkPool
from gridllm_client.reports import Reporter
from gridllm_client.routes import Routes
from gridllm_client.session import Session
from gridllm_client.terms import Terms
from tests.certificates import certified, closed_grid
from tests.charters import ENTRY, MAINTAINERS
from tests.unit.authority_hall import CANDIDACY
from tests.unit.closed_grid import ClosedGrid
from tests.unit.memory_grid import ROOT, MemoryNode, grid_of
from tests.unit.notes import Notes, until
from tests.unit.reference import plain_step
from tests.unit.tiny_models import LAYERS, Tiny, make_model

SPEED = 200.0  # blocks/s that both nodes were certified at
SLOWED = 5.0  # times slower one of them becomes
ENTRY_HERE = ENTRY.model_copy(update={"blocks": LAYERS})
SIGNED = closed_grid(
    threshold=1,
    models=[ENTRY_HERE],
    admission=Admission(required=True, serve=Minimums(decode_blocks_per_s=10.0)),
)


def figures(decode: float) -> Figures:
    return Figures(
        decode_blocks_per_s=decode,
        batch_blocks_per_s=8 * decode,
        prefill_blocks_per_s=decode,
        memory_bytes=1 << 20,
        version="9",
    )


class Grid(ClosedGrid):
    """One authority, two nodes that share the model, and everything that keeps them fit."""

    speed = SPEED

    def __init__(self, network: MemoryNetwork, folder: Path, blocks: int, stack: AsyncExitStack) -> None:
        super().__init__(network, folder, blocks, stack)
        self.signed = SIGNED
        self.gate = self._gate()
        self.directory = Directory(self.swarm, SIGNED.grid, self.gate.admit)
        self.slower: dict[PeerId, float] = {}
        self.measured: dict[PeerId, float] = {}  # where an examination finds something else
        self.standings: dict[PeerId, Standing] = {}
        self.board = NoticeBoard(SIGNED)
        self.events: list[FitnessEvent] = []
        self.office = network.join(Identity.ephemeral())

    async def add(self, start: int, end: int, **announced: Any) -> MemoryNode:
        """A node certified at ``speed`` a minute ago, which may be called to be measured again."""
        node = await super().add(start, end, **announced)
        peer, then = node.swarm.peer, int(time.time()) - 60
        standing = Standing(SIGNED, self.gates[peer], peer, ROOT, "float32")
        standing.adopt(certified(SIGNED, peer, figures=figures(self.speed), issued=then, expires=then + 3600))
        self.standings[peer] = standing
        candidacy = replace(CANDIDACY, entry=ENTRY_HERE)

        async def examine(watcher: Any, certificate: bytes, wait_s: float) -> bytes:
            board = standing.gate.board
            assert isinstance(board, NoticeBoard)
            return await admit(node.swarm, SIGNED, board, candidacy, watcher, certificate=certificate, wait_s=wait_s)

        renewal = Renewal(standing, examine, lambda: self.announce(node, standing.raw), Notes())
        await renewal.serve_rechecks(node.swarm, SIGNED)
        await self.announce(node, standing.raw)
        self._hold(asyncio.create_task(renewal.run()))
        return node

    async def examine(self, _stream: Any, examination: Examination) -> Examined:
        """In place of the examination: it finds out how fast the node is."""
        speed = self.speed / self.slower.get(examination.peer, 1.0)
        return Examined(figures(self.measured.get(examination.peer, speed)), "", "")

    async def govern(self) -> None:
        """Open the authority."""
        authority: Authority | None = None
        rechecks = await self._stack.enter_async_context(
            continued_fitness(
                self.office,
                SIGNED,
                MAINTAINERS[0],
                self.board,
                tell=self.events.append,
                present=lambda peer: authority is not None and authority.present(peer),
                fitness=Fitness(least_sessions=5),
                spacing_s=0.0,
                void_after_s=0.3,
                come_s=6.0,
            )
        )

        def hear(event: Event) -> None:
            if event.kind == "failed":
                rechecks.not_admitted(event.peer, event.text, final=event.reason not in NOT_FALSE)

        authority = Authority(
            self.office,
            SIGNED,
            MAINTAINERS[0],
            self.board,
            {ENTRY_HERE.model_root: cast(Any, None)},
            limits=Limits(tries=100),
            dial_back=DialBack(self._second),
            examine=self.examine,
            strict=rechecks.strict,
            on_certified=rechecks.certified,
            tell=hear,
        )
        await self._stack.enter_async_context(authority)
        await serve_charter(self.office, SIGNED.raw, {})
        await until(lambda: bool(self.network.records(cards_key(SIGNED.grid))))

    async def client(self) -> Client:
        """Somebody with a key of their own."""
        made = Client(self)
        self._stack.push_async_callback(made.close)
        return made

    def certified_speed(self, node: MemoryNode) -> float:
        certificate = self.standings[node.swarm.peer].certificate
        assert certificate is not None
        return certificate.figures.decode_blocks_per_s

    async def _second(self) -> MemorySwarm:
        return self.network.join(Identity.ephemeral())

    def _hold(self, task: asyncio.Task[Any]) -> None:
        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)


class Client:
    """A client with a swarm, links and a gate of its own."""

    def __init__(self, grid: Grid) -> None:
        identity = Identity.ephemeral()
        self.grid = grid
        self.swarm = grid.network.join(identity)
        self.pool = LinkPool(self.swarm)
        self.gate = Gatekeeper(SIGNED, NoticeBoard(SIGNED))
        self.directory = Directory(self.swarm, SIGNED.grid, self.gate.admit)
        self.routes = Routes(self.directory, self.pool, ROOT, "float32", gate=self.gate)
        self.reporter = Reporter(self.swarm, identity, SIGNED, self.gate, self.pool.rtts_ms, spacing_s=0.0)

    async def generate(self, tokens: int = 17) -> None:
        """One session: a prompt of three tokens, then one token at a time."""
        width = self.grid.ends.hidden_size
        terms = Terms(model=ROOT, blocks=LAYERS, hidden_size=width, dtype=torch.float32)
        session = Session(self.pool, self.routes, terms, pace=self.reporter.pace(ROOT))
        try:
            await session.open()
            await session.forward(plain_step([0], session.lengths, 3), torch.randn(3, width))
            for _ in range(tokens):
                await session.forward(plain_step([0], session.lengths), torch.randn(1, width))
        finally:
            session.close()

    async def close(self) -> None:
        await self.reporter.close()
        await self.pool.close()
        await self.swarm.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Grid]:
    monkeypatch.setattr(Grid, "speed", getattr(request, "param", SPEED))
    run_pass = runner.run_pass
    peers: dict[int, PeerId] = {}

    def slowed(span: Any, batch: Any) -> None:
        run_pass(span, batch)
        factor = made.slower.get(peers.get(id(span), PeerId("")), 1.0)
        time.sleep(factor * (span.end - span.start) / made.speed)

    monkeypatch.setattr(runner, "run_pass", slowed)
    async with grid_of(Grid, tiny.folder, LAYERS, (0, 2, LAYERS)) as made:
        peers |= {id(node.engine.span): node.swarm.peer for node in made.listed}
        await made.govern()
        yield made


async def reported(grid: Grid, clients: int = 5, sessions: int = 1) -> None:
    """Each client generates in turn, and all reports arrive."""
    everyone = [await grid.client() for _ in range(clients)]
    for _ in range(sessions):
        for client in everyone:
            await client.generate()
            await until(lambda client=client: client.reporter._task is not None and client.reporter._task.done())  # type: ignore[misc]


async def test_a_node_that_became_slow_is_measured_again_and_certified_as_what_it_is(grid: Grid) -> None:
    honest, slow = grid.listed
    old = grid.standings[slow.swarm.peer].raw
    grid.slower[slow.swarm.peer] = SLOWED
    await reported(grid)
    await until(lambda: {event.kind for event in grid.events} >= {"confirmed", "lowered"})
    assert grid.certified_speed(slow) == pytest.approx(SPEED / SLOWED)
    assert grid.certified_speed(honest) == pytest.approx(SPEED)
    assert [event.peer for event in grid.events if event.kind == "lowered"] == [slow.swarm.peer]
    await until(lambda: grid.board.revocation(slow.swarm.peer) is not None)
    assert grid.board.revocation(honest.swarm.peer) is None

    client = await grid.client()
    for gate in (client.gate, *grid.gates.values()):
        for raw in grid.board.raws():
            gate.board.add(raw)
    with pytest.raises(CertificateError) as raised:
        client.gate.check(old, slow.swarm.peer)
    assert raised.value.rule == "revoked"
    await client.generate()  # it serves on, by its new certificate
    speeds = {record.peer: record.blocks_per_s for record in await client.directory.nodes(ROOT)}
    assert speeds[slow.swarm.peer] == pytest.approx(SPEED / SLOWED)
    assert grid.standings[slow.swarm.peer].revoked() is None


@pytest.mark.parametrize("grid", [10.0], indirect=True)
async def test_nodes_as_fast_as_certified_are_left_alone(grid: Grid) -> None:
    grid.slower |= {node.swarm.peer: 0.02 for node in grid.listed}  # of a token's 0.5 s a busy machine has the rest
    await reported(grid)
    await asyncio.sleep(0.3)
    assert grid.events == []


async def test_a_node_too_slow_for_every_role_loses_its_certificate(grid: Grid) -> None:
    slow = grid.listed[1]
    grid.slower[slow.swarm.peer] = SLOWED
    grid.measured[slow.swarm.peer] = 1.0  # the minimum is 10
    await reported(grid)
    await until(lambda: grid.board.revocation(slow.swarm.peer) is not None)
    revocation = grid.board.revocation(slow.swarm.peer)
    assert revocation is not None
    assert revocation.until < revocation.issued, "no bar: it may come again"
    assert "not admitted" in revocation.why
    assert ("voided", slow.swarm.peer) in [(event.kind, event.peer) for event in grid.events]
