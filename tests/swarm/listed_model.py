"""A leaderboard as far as a listed model needs one: its card, the model's manifest and weights, and signed notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gridllm.admission.cards import publish_card
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import ModelEntry
from gridllm.charter.fetch import serve_charter
from gridllm.charter.gossip import gossiping, push_notice
from gridllm.charter.pin import Pins
from gridllm.identity.keys import load
from gridllm.ids import PeerId
from gridllm.models.families import read_config
from gridllm.models.manifest import build_manifest, manifest_bytes, root
from gridllm.models.seeding import Seeding, Shelf
from gridllm.models.sizes import block_parameters
from gridllm.swarm.libp2p import open_swarm
from tests.swarm.grid import BUSY_S, LOOPBACK, ProcessGrid
from tests.unit.contests import BOARD, listing, rules


class Listing:
    """One model, which this process hands out."""

    def __init__(self, grid: ProcessGrid, folder: Path, name: str) -> None:
        self.pins = Pins(grid.maintainer / "data" / "gridllm" / "bootstrap")
        self.signed = self.pins.current("test")
        self.maintainer = load(self.pins.notices_path(self.signed).with_name("maintainer.key"))
        self.first = PeerId(grid.address.rsplit("/p2p/", 1)[-1])
        self.address = grid.address
        self.folder, self.manifest = folder, build_manifest(folder)
        config = read_config(folder)
        self.entry = ModelEntry(
            name=name,
            root=root(self.manifest),
            source="local",
            blocks=config.num_hidden_layers,
            parameters=sum(block_parameters(self.manifest)),
            hidden_size=config.hidden_size,
            dtype="float32",
        )
        self._at = 0

    def notice(self, *, contribution: int = 0, withdrawn: bool = False) -> bytes:
        """The next one about the model."""
        self._at += 1
        signers = [self.maintainer]
        at = 1_800_000_000 + self._at
        return listing(self.signed, self.entry, at, contribution, signers, withdrawn=withdrawn)

    @asynccontextmanager
    async def handed_out(self) -> AsyncIterator[Listing]:
        """Be the grid's leaderboard for as long as the block lasts."""
        swarm = await open_swarm(
            BOARD, initial_peers=[self.address], host_maddrs=[LOOPBACK], namespace=self.signed.grid
        )
        try:
            board, shelf = NoticeBoard(self.signed), Shelf()
            peers = [(self.first, (self.address,))]
            async with gossiping(swarm, board, lambda: peers):
                await serve_charter(swarm, self.signed.raw, {self.entry.model_root: manifest_bytes(self.manifest)})
                await asyncio.to_thread(shelf.put, self.entry.model_root, self.manifest, self.folder)
                await Seeding(shelf).serve(swarm)
                await publish_card(swarm, self.signed.grid, self.maintainer, office="leaderboards")
                self._swarm = swarm
                await self.post(rules(self.signed, signers=[self.maintainer]))
                yield self
        finally:
            await swarm.close()

    async def post(self, raw: bytes) -> None:
        """Tell the first peer, which tells everybody."""
        await push_notice(self._swarm, self.first, raw, timeout_s=BUSY_S)
