"""An author and a leaderboard on a network in memory, with a small model that no library has to load."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gridllm.errors import NotAccepted
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Delegation
from gridllm.models.manifest import Manifest, TensorEntry, root
from gridllm.models.weights import Checkpoint
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork
from gridllm_leaderboard.checking.facts import facts_of
from gridllm_leaderboard.messages import UPLOAD_STREAM
from gridllm_leaderboard.upload.interface import Expected
from gridllm_leaderboard.upload.receiving import Receiving
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from gridllm_leaderboard.vault.vault import Vault

GRID = "9" * 64
CONFIG: dict[str, Any] = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2}


def small_model(folder: Path, seed: int = 0, tensors: dict[str, torch.Tensor] | None = None) -> Manifest:
    """Write a folder and return its manifest. ``tensors``: in place of some 2.6 MB of random ones."""
    folder.mkdir(parents=True, exist_ok=True)
    made = torch.Generator().manual_seed(seed)
    sizes = {"embed": 300_000, "layers.0.w": 250_001, "layers.1.w": 100_000, "norm": 7, "empty": 0}
    weights = tensors or {name: torch.randn(size, generator=made) for name, size in sizes.items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(f'{{"seed": {seed}}}' * 10)
    return manifest_of(folder)


def manifest_of(folder: Path) -> Manifest:
    checkpoint = Checkpoint.open(folder)
    entries = {
        name: TensorEntry(slot.dtype, list(slot.shape), slot.size, checkpoint.digest(name))
        for name, slot in checkpoint.slots.items()
    }
    tokenizer = {"tokenizer.json": hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()}
    return Manifest(1, "llama", CONFIG, None, tokenizer, entries)


@dataclass
class FakeDesk:
    """Knows submissions by id: account and what is expected."""

    known: dict[str, tuple[str, Expected]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    turned_down: dict[str, str] = field(default_factory=dict)

    async def expected(self, submission: str, account: str) -> Expected:
        owner, expected = self.known.get(submission, ("", None))
        if owner != account or expected is None:
            raise NotAccepted("There is no such submission of yours.")
        return expected

    async def arrived(self, submission: str) -> None:
        self.whole.append(submission)

    async def refused(self, submission: str, why: str) -> None:
        self.turned_down[submission] = why


class Hall:
    """One leaderboard; authors come and go."""

    def __init__(self, folder: Path, **bounds: Any) -> None:
        self.network = MemoryNetwork()
        self.desk = FakeDesk()
        self.folder = folder
        self.vault = Vault(folder, spare_bytes=0)
        self.bounds = bounds
        self.author = Identity.ephemeral()
        self.client = self.network.join(Identity.ephemeral())
        self.home = self.network.join(Identity.ephemeral())
        self.receiving = Receiving(self.vault, GRID, self.desk, **bounds)
        self.read: list[int] = []  # bytes of each piece that was sent
        self.progress: list[tuple[int, int]] = []

    async def open(self) -> None:
        await self.receiving.serve(self.home)

    async def restart(self) -> None:
        """The leaderboard is killed and comes back with what its disk has."""
        self.network.kill(self.home.peer)
        self.home = self.network.join(Identity.ephemeral())
        self.vault = Vault(self.folder, spare_bytes=0)
        self.receiving = Receiving(self.vault, GRID, self.desk, **self.bounds)
        await self.open()

    def enter(self, manifest: Manifest) -> str:
        facts = facts_of(manifest)
        expected = Expected(root(manifest), facts.weights, facts.size, facts.parameters)
        submission = hashlib.sha256(expected.root.encode()).hexdigest()
        self.desk.known[submission] = self.author.public_key.hex(), expected
        return submission

    def delegation(self, client: PeerId | None = None, by: Identity | None = None) -> bytes:
        signer, now = by or self.author, int(time.time())
        said = Delegation(grid=GRID, account=signer.public_key.hex(), client=client or self.client.peer, issued=now,
                          expires=now + 60)  # fmt: skip
        return sign(said, signer)

    async def send(self, folder: Path, manifest: Manifest, spoil: Callable[[int], None] | None = None) -> ModelRoot:
        """Upload; ``spoil`` is called with the bytes sent so far before each piece."""
        bundle = Bundle(folder, manifest)
        read = bundle.read

        def noted(digest: str, offset: int) -> bytes:
            if spoil is not None:
                spoil(sum(self.read))
            data = read(digest, offset)
            self.read.append(0 if digest == bundle.root else len(data))
            return data

        bundle.read = noted  # type: ignore[method-assign]

        async def find() -> tuple[PeerId, tuple[str, ...]]:
            return self.home.peer, self.home.addresses

        def show(done: int, total: int) -> None:
            self.progress.append((done, total))

        submission = self.enter(manifest)
        await send_bundle(self.client, find, submission, self.delegation, bundle, show)
        return root(manifest)

    async def stream(self) -> Stream:
        await self.client.connect(self.home.peer, self.home.addresses)
        return await self.client.open_stream(self.home.peer, UPLOAD_STREAM)


def same_files(folder: Path, other: Path) -> bool:
    """Whether two folders hold equal tensors."""
    ours, theirs = Checkpoint.open(folder), Checkpoint.open(other)
    return {n: ours.digest(n) for n in ours.names} == {n: theirs.digest(n) for n in theirs.names}


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not said():  # noqa: ASYNC110  # files and counters tell no news
            await asyncio.sleep(0.01)
