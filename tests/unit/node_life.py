"""A volunteer's life on an in-memory network, for tests to watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from gridllm.admission.gate import Gatekeeper
from gridllm.admission.store import Certificates
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import ModelEntry, SignedCharter, sign_charter
from gridllm.charter.economy import Economy
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.errors import ModelError
from gridllm.identity.keys import Identity
from gridllm.models.files import find_model
from gridllm.models.manifest import build_manifest, manifest_bytes, root
from gridllm.models.sizes import block_size
from gridllm.node.enrolment import Membership
from gridllm.node.lifecycle import Volunteer
from gridllm.node.standing import Standing
from gridllm.node.stops import Stops
from gridllm.node.succession.following import Following
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import bytes_needed
from gridllm.swarm.directory import Directory
from gridllm.swarm.interface import Swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Open
from gridllm.wire.record import NodeRecord
from tests.charters import MAINTAINERS, charter
from tests.unit.notes import Notes, until

BLOCKS = 8


@cache
def demo() -> tuple[ModelEntry, bytes]:
    manifest = build_manifest(find_model("demo"))
    size = int(manifest.config["hidden_size"])
    fields: dict[str, Any] = {"name": "demo", "source": "demo", "blocks": BLOCKS, "dtype": "float32"}
    entry = ModelEntry(root=root(manifest), parameters=1, hidden_size=size, **fields)
    return entry, manifest_bytes(manifest)


class Life:
    """A volunteer that runs in the background."""

    def __init__(
        self,
        network: MemoryNetwork,
        home: Path,
        *,
        identity: Identity | None = None,
        admission: Admission | None = None,
        economy: Economy | None = None,
        champions: Mapping[str, Path | None] | None = None,
        **changes: Any,
    ) -> None:
        """``champions``: it follows the leaderboard, and has the files of these models, by root; None: fetches them."""
        entry, raw = demo()
        self.entry = entry
        self.identity = identity or Identity.ephemeral()
        grid = charter(models=[entry], first_peers=[], admission=admission or Admission(), economy=economy or Economy())
        self.signed: SignedCharter = sign_charter(grid, MAINTAINERS)
        self.pins = Pins(home)
        self.pins.save_manifest(entry.model_root, raw)
        self.notes = Notes()
        self.stops = Stops(asyncio.Event(), asyncio.Event())
        self.swarm: Swarm | None = None
        self.links: list[asyncio.Task[None]] = []
        wishes: dict[str, Any] = {
            "blocks": (0, 2),
            "memory_bytes": None,
            "cache_tokens": 256,
            "device": "cpu",
            "dtype": "float32",
            "folder": find_model("demo"),
            "grace_s": 20.0,
        }
        self.network = network
        self.board = NoticeBoard(self.signed, self.pins.notices_path(self.signed))
        self.gate = Gatekeeper(self.signed, self.board)
        self.store = Certificates(home)
        self.wishes = Wishes(**(wishes | changes))
        self.champions = champions or {}
        self.heir_blocks: tuple[int, int] | None = None  # of every model but the first
        membership = self.membership(entry)
        self.standing = membership.standing
        following = None if champions is None else Following(self.signed, self.board, self.settle)
        self.volunteer = Volunteer(membership, self.wishes, self.enter, self.notes, self.stops, following)
        self.task = asyncio.create_task(self.volunteer.run())

    def membership(self, entry: ModelEntry) -> Membership:
        standing = Standing(self.signed, self.gate, self.identity.peer, entry.model_root, "float32", store=self.store)
        return Membership(self.signed, entry, self.pins, standing, self.identity)

    def settle(self, entry: ModelEntry) -> tuple[Membership, Wishes]:
        """What it asks for with another model."""
        if entry.root == self.entry.root:
            return self.membership(entry), self.wishes
        if entry.root not in self.champions:
            raise ModelError(f"Nobody hands out {entry.name}.")
        return self.membership(entry), replace(self.wishes, folder=self.champions[entry.root], blocks=self.heir_blocks)

    async def enter(self) -> Swarm:
        self.swarm = self.network.join(self.identity)
        return self.swarm

    async def serving(self) -> NodeRecord:
        waiting = asyncio.create_task(self.notes.again.wait())
        await asyncio.wait((waiting, self.task), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        self.notes.again.clear()
        return self.notes.served[-1]

    async def records(self) -> list[NodeRecord]:
        onlooker = self.network.join(Identity.ephemeral())
        try:
            return await Directory(onlooker, self.signed.grid).nodes(self.entry.model_root)
        finally:
            await onlooker.close()


@asynccontextmanager
async def living(home: Path, network: MemoryNetwork | None = None, **changes: Any) -> AsyncIterator[Life]:
    life = Life(network or MemoryNetwork(), home, **changes)
    try:
        yield life
    finally:
        life.stops.stop.set()
        life.stops.hurry.set()
        await asyncio.wait([life.task], timeout=60)
        assert life.task.done(), "it leaves when told to"
        for link in life.links:
            link.cancel()
        await asyncio.gather(life.task, *life.links, return_exceptions=True)


def room_for(blocks: int) -> int:
    size = block_size(build_manifest(find_model("demo")), "float32")
    return bytes_needed(blocks, size.weight_bytes, size.cache_bytes_per_token, cache_tokens=256)


async def open_session(life: Life) -> tuple[Link, list[object]]:
    """A client with a session open on the volunteer."""
    client = life.network.join(Identity.ephemeral())
    record = life.notes.served[-1]
    heard: list[object] = []
    link = Link(
        await client.open_stream(record.peer, LINK_STREAM), on_message=lambda _, m, __: heard.append(m), opener=True
    )
    life.links.append(asyncio.create_task(link.run()))
    link.send(
        Open(
            call=1,
            session=bytes(16),
            model=life.entry.root,
            dtype="float32",
            start=record.start,
            end=record.end,
            rows=1,
            epoch=0,
            upstream=client.peer,
            next=None,
            need=[0],
        )
    )
    await until(lambda: bool(heard))
    return link, heard
