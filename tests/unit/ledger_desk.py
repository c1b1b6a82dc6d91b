"""The ledger's commands without a network of processes: each one finds the same two keepers in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import ModelEntry, SignedCharter, sign_charter
from gridllm.charter.economy import Economy
from gridllm.charter.pin import Pins
from gridllm.cli import keeper_link
from gridllm.identity.keys import Identity, load_or_create
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import Rulebook
from gridllm.ledger.prices import Count
from gridllm.models.manifest import Manifest, TensorEntry, manifest_bytes, root
from gridllm.models.sizes import block_parameters
from gridllm.settings import load_settings
from gridllm.swarm.memory import MemoryNetwork
from tests.certificates import SIGNERS
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.ledgers import Scribe, hex_of
from tests.unit.fake_keeper import FakeKeeper


class DeskScribe(Scribe):
    """Writes of the model whose manifest is at hand."""

    model: str

    def price(self, prefill: int, decode: int, start: int = 0, end: int = ENTRY.blocks) -> int:
        return self.rules.price(self.model, start, end, Count(prefill, decode))

    def _on_tab(self, payer: Identity, payee: Identity, changes: dict[str, Any]) -> dict[str, Any]:
        return super()._on_tab(payer, payee, changes) | {"model": self.model}


class Desk:
    """A home that joined a grid with two keepers."""

    def __init__(self, manifest: Manifest, **economy: Any) -> None:
        entry = ModelEntry(**(ENTRY.model_dump() | {"root": root(manifest)}))
        keepers = tuple(hex_of(one) for one in MAINTAINERS[:2])
        kept = Economy(**({"required": True, "keepers": keepers, "newcomers": "nothing"} | economy))
        self.signed: SignedCharter = sign_charter(charter(models=[entry], economy=kept), SIGNERS)
        settings = load_settings()
        self.pins = Pins(settings.data_dir)
        self.pins.pin(self.signed)
        self.pins.save_manifest(entry.model_root, manifest_bytes(manifest))
        self.me: Identity = load_or_create(settings.identity_path)
        self.rules = Rulebook(self.signed, {entry.root: block_parameters(manifest)})
        self.scribe = DeskScribe(self.signed)
        self.scribe.model, self.scribe.rules = entry.root, self.rules
        self.a, self.b = (FakeKeeper(None, self.signed, one, self.rules) for one in MAINTAINERS[:2])  # type: ignore[arg-type]
        self.silent: set[str] = set()
        """Keepers that are not on line."""

    @property
    def home(self) -> FakeKeeper:
        """The home keeper of this machine's account."""
        return self.a if self.rules.home(hex_of(self.me)) == self.a.key else self.b

    @property
    def other(self) -> FakeKeeper:
        return self.b if self.home is self.a else self.a

    def exchange(self) -> None:
        for keeper in (self.a, self.b):
            keeper.sign()
        self.a.mirror(self.b)
        self.b.mirror(self.a)

    @asynccontextmanager
    async def asking(self, signed: SignedCharter, pins: Pins) -> AsyncIterator[Keepers]:
        assert signed.grid == self.signed.grid
        network = MemoryNetwork()
        swarm = network.join(Identity.ephemeral())
        for keeper in (self.a, self.b):
            if keeper.key not in self.silent:
                keeper.swarm = network.join(Identity.ephemeral())
                await keeper.start()
        try:
            yield Keepers(swarm, signed)
        finally:
            for one in list(network._swarms.values()):
                await one.close()


def make_desk(folder: Path, monkeypatch: pytest.MonkeyPatch, **economy: Any) -> Desk:
    """A desk whose home is below ``folder``."""
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    size = {"dtype": "F32", "size": 4, "sha256": "00" * 32}
    tensors = {
        f"layers.{block}.weight": TensorEntry(**size | {"shape": [10 + block, 1001]}) for block in range(ENTRY.blocks)
    }
    manifest = Manifest(format=1, family="llama", config={}, generation_config=None, tokenizer={}, tensors=tensors)
    desk = Desk(manifest, **economy)
    monkeypatch.setattr(keeper_link, "asking_keepers", desk.asking)
    return desk
