"""A grid whose champion changes, in memory: nodes of several models, a leaderboard that hands them out, a client."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from gridllm.admission.cards import publish_card
from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import CROWN_TYPE, LISTING_TYPE, RULES_TYPE, Crown, Listing, Rules, TaskRule
from gridllm.charter.document import ModelEntry, sign_charter
from gridllm.charter.fetch import serve_charter
from gridllm.charter.gossip import serve_notices
from gridllm.charter.notices import Notice
from gridllm.charter.pin import Pins
from gridllm.engine.attention import RAGGED, register
from gridllm.engine.runner import Engine
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.models.manifest import Manifest, build_manifest, manifest_bytes, root
from gridllm.models.seeding import Seeding, Shelf
from gridllm.models.span import load_span
from gridllm.node.service.service import NodeService
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.record import NodeRecord
from gridllm_client.grid import Grid
from gridllm_client.runtime import Runtime
from tests.charters import MAINTAINERS, charter
from tests.unit.test_client_model import write_tokenizer
from tests.unit.tiny_models import LAYERS, Tiny, make_model

PROMPT = "Once upon a time"
TOKENS = 8


@dataclass(frozen=True)
class Book:
    """One model of the grid."""

    tiny: Tiny
    manifest: Manifest
    entry: ModelEntry
    text: str  # that plain transformers makes of PROMPT, greedily


def book_of(family: str, folder: Path) -> Book:
    """A tiny model, and what the grid says of it."""
    tiny = make_model(family, folder)
    write_tokenizer(folder)
    manifest = build_manifest(folder)
    entry = ModelEntry(
        name=f"the-{family}",
        root=root(manifest),
        source="local",
        blocks=LAYERS,
        parameters=1_000_000,
        hidden_size=tiny.model.config.hidden_size,
        dtype="float32",
    )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer([PROMPT], return_tensors="pt")
    out = tiny.model.generate(**batch, max_new_tokens=TOKENS, do_sample=False)
    text = tokenizer.decode(out[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return Book(tiny, manifest, entry, text)


class SharedRuntime(Runtime):
    """A loop that clients leave as they found it: the network lives on it, too."""

    def close(self, goodbye: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """What a client does at its end."""
        self.start(goodbye).result(timeout_s)

    def end(self, goodbye: Coroutine[Any, Any, None]) -> None:
        """What the test does at its end."""
        super().close(goodbye, 20.0)


class ServingNode:
    """A node of one model."""

    def __init__(self, grid: CrownedGrid, book: Book, start: int, end: int) -> None:
        self.swarm = grid.network.join(Identity.ephemeral())
        self.engine = Engine(load_span(book.tiny.folder, None, start, end, attn=RAGGED), cache_tokens=8192)
        self.service = NodeService(self.swarm, self.engine, book.entry.model_root)
        self._shelf = Shelf()
        self._shelf.put(book.entry.model_root, book.manifest, book.tiny.folder)
        self._directory = Directory(self.swarm, grid.signed.grid)
        self._record = NodeRecord(
            peer=self.swarm.peer,
            version="0",
            model=book.entry.model_root,
            start=start,
            end=end,
            state="serving",
            dtype="float32",
            blocks_per_s=100.0,
            free_tokens=8192,
            total_tokens=8192,
            next_hop_ms={},
            addresses=list(self.swarm.addresses),
            since=time.time(),
        )

    async def start(self) -> None:
        self.engine.start()
        await self.service.start()
        await Seeding(self._shelf).serve(self.swarm)
        await self._directory.publish(self._record, 120.0)

    async def retire(self) -> None:
        """As a node that goes over to another model: what it has begun it ends."""
        await self._directory.retract()
        await self.service.drain(10.0, quietly=True)
        await self.stop()

    async def stop(self) -> None:
        await asyncio.wait_for(self.service.stop(), 60)
        await self.engine.stop()
        await self.swarm.close()


class CrownedGrid:
    """Everything but the client; all of it lives on ``runtime``'s loop."""

    def __init__(self, runtime: SharedRuntime, books: list[Book], home: Path) -> None:
        register()
        self.runtime, self.books, self.home = runtime, books, home
        self.network = MemoryNetwork()
        self._account = Identity.ephemeral()
        self.hub: MemorySwarm = self.network.join(self._account)  # leaderboard and first peer in one
        made = charter(first_peers=list(self.hub.addresses), models=[books[0].entry])
        self.signed = sign_charter(made, MAINTAINERS[:2])
        self.board = NoticeBoard(self.signed)
        self.nodes: dict[str, list[ServingNode]] = {}
        self._serial = 0
        self._stack = AsyncExitStack()
        Pins(home).pin(self.signed)

    @staticmethod
    def founded(books: list[Book], home: Path) -> CrownedGrid:
        """With its leaderboard; nobody serves anything yet."""
        runtime = SharedRuntime()

        async def found() -> CrownedGrid:
            grid = CrownedGrid(runtime, books, home)
            await grid._open()
            return grid

        return runtime.run(found())

    async def _open(self) -> None:
        """The leaderboard and its rules."""
        manifests = {book.entry.model_root: manifest_bytes(book.manifest) for book in self.books}
        await serve_charter(self.hub, self.signed.raw, manifests)
        await serve_notices(self.hub, self.board)
        shelf = Shelf()
        for book in self.books:
            shelf.put(book.entry.model_root, book.manifest, book.tiny.folder)
        await Seeding(shelf).serve(self.hub)
        await publish_card(self.hub, self.signed.grid, MAINTAINERS[0], office="leaderboards")
        task = TaskRule(name="stories", kind="text", commitment="00" * 32, items=10)
        account, now = self._account.public_key.hex(), int(time.time())
        rules = Rules(
            grid=self.signed.grid, serial=1, issued=now, account=account, graders=(account,), tasks=(task,), tier=0
        )
        self.post(rules, RULES_TYPE)

    def end(self) -> None:
        """Everything ends."""
        self.runtime.end(self._close())

    async def _close(self) -> None:
        for nodes in self.nodes.values():
            for node in nodes:
                await node.stop()
        await self._stack.aclose()
        await self.hub.close()

    def post(self, notice: Notice, kind: str) -> bytes:
        """The maintainers say it, to the hub."""
        raw = sign_statement(notice, kind, MAINTAINERS[:2])
        self.board.add(raw)
        return raw

    async def crown(self, book: Book, *, entry: ModelEntry | None = None, tell: Grid | None = None) -> None:
        """The model leads from now on. ``tell``: a client hears so at once; others when they ask."""
        entry = entry or book.entry
        former = None if self.board.crown is None else self.board.crown.root
        self._serial += 1
        grid, now = self.signed.grid, int(time.time())
        listing = Listing(grid=grid, model=entry, submission="11" * 32, contribution=0, issued=now)
        said: dict[str, Any] = {"grid": grid, "submission": "11" * 32, "verdict": "22" * 32, "issued": now}
        crown = Crown(serial=self._serial, root=entry.root, former=former, **said)
        raws = [self.post(listing, LISTING_TYPE), self.post(crown, CROWN_TYPE)]
        if tell is not None:
            await tell._net.board.take(raws)

    async def serve(self, book: Book, cuts: tuple[int, ...] = (0, 2, LAYERS)) -> None:
        """Nodes of a model, between ``cuts``."""
        for start, end in itertools.pairwise(cuts):
            node = ServingNode(self, book, start, end)
            await node.start()
            self.nodes.setdefault(book.entry.root, []).append(node)

    async def retire(self, book: Book) -> None:
        """All nodes of a model go, each once its sessions are over."""
        await asyncio.gather(*(node.retire() for node in self.nodes.pop(book.entry.root)))

    def client(self, monkeypatch: pytest.MonkeyPatch, home: Path | None = None) -> Grid:
        """A client on the same loop. ``home``: another machine's folder; its cache is beside it."""
        if home is not None:
            Pins(home).pin(self.signed)
        home = home or self.home
        monkeypatch.setenv("GRIDLLM_CACHE_DIR", str(home / "cache"))
        monkeypatch.setattr("gridllm_client.grid.Runtime", lambda: self.runtime)
        torch.set_num_threads(1)

        async def join() -> MemorySwarm:
            swarm = self.network.join(Identity.ephemeral())
            self._stack.push_async_callback(swarm.close)
            return swarm

        return Grid(home, swarm=self.runtime.run(join()), reports=False)
