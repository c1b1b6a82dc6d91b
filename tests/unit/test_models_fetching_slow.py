"""A reader on a slow home line finishes: alone, from many seeds, and among strangers who keep all streams busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import torch

from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models import seeding
from gridllm.models.fetching import obtain_weights
from gridllm.models.manifest import Manifest, root
from gridllm.models.seeding import STREAMS, STREAMS_PER_PEER, Seeding, Shelf, verify_files
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.tasks import end
from gridllm.wire.weights import WEIGHTS_STREAM, Want, encode
from tests.unit import virtual_time
from tests.unit.slow_line import SlowLine
from tests.unit.upload_hall import CONFIG, small_model

HOME_LINE = 50_000  # bytes a second
LATENCY_S = 0.03
AGAIN_S = 1.0  # after which a stranger who was sent away is back
NAMES = STREAMS // STREAMS_PER_PEER
ONE_ADDRESS = "203.0.113.7"

Model = tuple[Path, Manifest]


class Town:
    """Seeds of one model, a reader far away, and strangers. Made in the loop that it lives in."""

    def __init__(self, model: Model) -> None:
        self.network = MemoryNetwork(latency_s=LATENCY_S)
        self.folder, self.manifest = model
        self.seeds: dict[PeerId, tuple[str, ...]] = {}
        self.hosts: dict[PeerId, str] = {}  # where strangers come from
        self.sent_away = 0

    async def seed(self) -> Seeding:
        shelf, swarm = Shelf(), self.network.join(Identity.ephemeral())
        shelf.put(root(self.manifest), self.manifest, self.folder)

        async def seen_at(peer: PeerId) -> tuple[str, ...]:
            return (f"/ip4/{self.hosts.get(peer, '198.51.100.1')}/tcp/31337",)

        setattr(swarm, "seen_at", seen_at)  # noqa: B010
        made = Seeding(shelf, clock=asyncio.get_running_loop().time)
        await made.serve(swarm)
        self.seeds[swarm.peer] = swarm.addresses
        return made

    async def fetch(self, cache_dir: Path) -> float:
        """How long it took over a home line, seconds."""
        reader = SlowLine(self.network.join(Identity.ephemeral()), HOME_LINE)

        async def find() -> dict[PeerId, tuple[str, ...]]:
            return self.seeds

        loop = asyncio.get_running_loop()
        began, swarm = loop.time(), cast(Swarm, reader)
        folder = await obtain_weights(swarm, root(self.manifest), self.manifest, cache_dir, find, name="model")
        verify_files(folder, self.manifest)
        return loop.time() - began

    @asynccontextmanager
    async def crowd(self, every_s: float | None, host: str = "") -> AsyncIterator[None]:
        """Strangers who keep all streams of the first seed, and come back when they lose one; all have them on entry.

        Args:
            every_s: each asks for nothing at all once in so long, on each of its streams; None: never.
            host: where all come from; each is at an address of its own without it.
        """
        (target, _), *_ = self.seeds.items()
        tasks = []
        for number in range(NAMES):
            stranger = self.network.join(Identity.ephemeral())
            self.hosts[stranger.peer] = host or f"192.0.2.{number}"
            tasks += [asyncio.create_task(self._hold(stranger, target, every_s)) for _ in range(STREAMS_PER_PEER)]
        await asyncio.sleep(1)
        try:
            yield
        finally:
            await end(*tasks)

    async def _hold(self, stranger: MemorySwarm, target: PeerId, every_s: float | None) -> None:
        while True:
            stream = await stranger.open_stream(target, WEIGHTS_STREAM)
            with contextlib.suppress(GridError):
                while True:
                    if every_s is not None:
                        await stream.write(encode(Want(root(self.manifest), "empty", 0)))
                        await stream.read()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(every_s):
                            await stream.read()
                            self.sent_away += 1
            await stream.close()
            await asyncio.sleep(AGAIN_S)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """7 MB in more tensors than there are streams: minutes on a home line."""
    monkeypatch.setitem(CONFIG, "num_attention_heads", 2)  # whoever fetches a model reads its config
    made = torch.Generator().manual_seed(1)
    sizes = {f"layers.{number}.w": 100_001 for number in range(16)} | {"embed": 150_000, "norm": 7, "empty": 0}
    tensors = {name: torch.randn(size, generator=made) for name, size in sizes.items()}
    return tmp_path / "model", small_model(tmp_path / "model", tensors=tensors)


def at_best_s(model: Model) -> float:
    """What the line takes for all of it."""
    return sum(entry.size for entry in model[1].tensors.values()) / HOME_LINE


@pytest.mark.parametrize("seeds", [1, 8])
def test_a_home_line_that_is_too_slow_for_all_streams_finishes(tmp_path: Path, model: Model, seeds: int) -> None:
    async def story() -> float:
        town = Town(model)
        for _ in range(seeds):
            await town.seed()
        return await town.fetch(tmp_path / "cache")

    assert virtual_time.run(story()) < 1.5 * at_best_s(model)


@pytest.mark.parametrize(
    ("every_s", "host"),
    [(None, ""), (3600.0, ""), (1.0, ONE_ADDRESS)],
    ids=["silent", "silent-after-a-question", "asking-from-one-address"],
)
def test_it_finishes_among_strangers_who_keep_all_streams(
    tmp_path: Path, model: Model, every_s: float | None, host: str
) -> None:
    async def story() -> tuple[float, int]:
        town = Town(model)
        await town.seed()
        async with town.crowd(every_s, host):
            return await town.fetch(tmp_path / "cache"), town.sent_away

    took_s, sent_away = virtual_time.run(story())
    assert sent_away > 0 and took_s < 1.5 * at_best_s(model) + 60


def test_nobody_hurries_strangers_while_nobody_else_waits(model: Model) -> None:
    async def story() -> None:
        town = Town(model)
        made = await town.seed()
        async with town.crowd(3600.0):
            await asyncio.sleep(seeding.IDLE_S - 10)
            assert made.readers == NAMES and not town.sent_away

    virtual_time.run(story())
