"""A span and the ends as they come from a seed are those of the folder, whatever a family's parts are called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.ends import Ends
from gridllm.models.fetching import obtain_weights
from gridllm.models.manifest import build_manifest, root
from gridllm.models.seeding import Seeding, Shelf
from gridllm.models.span import load_span
from gridllm.swarm.memory import MemoryNetwork
from tests.unit.tiny_models import make_model


def assert_same(mine: torch.nn.Module, theirs: torch.nn.Module) -> None:
    mine_state, their_state = mine.state_dict(), theirs.state_dict()
    assert mine_state.keys() == their_state.keys()
    assert all(torch.equal(mine_state[name], their_state[name]) for name in their_state)


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "gemma3_text", "bloom", "falcon"])
async def test_parts_of(family: str, tmp_path: Path) -> None:
    here = make_model(family, tmp_path / "model").folder
    manifest = build_manifest(here)
    network, shelf = MemoryNetwork(), Shelf()
    seed, reader = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    shelf.put(root(manifest), manifest, here)
    await Seeding(shelf).serve(seed)

    async def find() -> dict[PeerId, tuple[str, ...]]:
        return {seed.peer: seed.addresses}

    async def fetch(cache: str, blocks: tuple[int, int] | None, *, ends: bool) -> Path:
        cache_dir = tmp_path / cache
        return await obtain_weights(
            reader, root(manifest), manifest, cache_dir, find, name=family, blocks=blocks, ends=ends
        )

    span = load_span(await fetch("span", (1, 3), ends=False), manifest, 1, 3)
    assert_same(span.base, load_span(here, manifest, 1, 3).base)
    assert_same(Ends.load(await fetch("ends", None, ends=True), manifest).model, Ends.load(here, manifest).model)
