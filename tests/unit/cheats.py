"""What cheats of a leaderboard have at hand in the tests: models that differ a little, claims that they sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.manifest import Manifest
from gridllm.models.manifest import root as root_of
from gridllm.swarm.interface import Swarm
from gridllm_leaderboard.checking.facts import facts_of
from gridllm_leaderboard.statements import Submission
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from tests.unit.leaderboard_house import House, hex_of
from tests.unit.upload_hall import manifest_of, small_model

Tensors = dict[str, torch.Tensor]


def tensors(seed: int) -> Tensors:
    """Those of ``House.submission(seed)``."""
    made = torch.Generator().manual_seed(seed)
    sizes = {"embed": 100, "layers.0.w": 50, "layers.1.w": 40}
    return {name: torch.randn(size, generator=made) for name, size in sizes.items()}


def one_value_changed(seed: int) -> Tensors:
    made = tensors(seed)
    made["layers.1.w"][0] += 1e-3
    return made


def model(folder: Path, seed: int, made: Tensors | None = None, **config: Any) -> Manifest:
    """A model folder, its config with more keys where some are named."""
    manifest = small_model(folder, seed, made or tensors(seed))
    return msgspec.structs.replace(manifest, config=manifest.config | config)


def sharded(folder: Path, seed: int) -> Manifest:
    """The same tensors in a file each."""
    small_model(folder, seed, tensors(seed))
    (folder / "model.safetensors").unlink()
    places = {}
    for number, (name, one) in enumerate(tensors(seed).items()):
        places[name] = f"model-{number}.safetensors"
        save_file({name: one}, folder / places[name])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return manifest_of(folder)


def claim(made: House, manifest: Manifest, author: Identity, name: str, **changes: Any) -> Submission:
    """What the author says of a model; ``changes``: where it lies."""
    facts = facts_of(manifest)
    fields: dict[str, Any] = {
        "grid": made.signed.grid,
        "account": hex_of(author),
        "root": root_of(manifest),
        "weights": facts.weights,
        "name": name,
        "message": "",
        "license": "MIT",
        "base": None,
        "serve": True,
        "parameters": facts.parameters,
        "size": facts.size,
        "issued": int(made.clock()),
    }
    return Submission(**fields | changes)


async def bring(made: House, folder: Path, manifest: Manifest, id_: str, author: Identity) -> None:
    """Upload it, whatever it is."""
    await send(made, Bundle(folder, manifest), id_, author)


async def send(made: House, bundle: Bundle, id_: str, author: Identity, delegation: bytes | None = None) -> None:
    """``delegation``: in place of the author's own."""

    async def find() -> tuple[PeerId, tuple[str, ...]]:
        return made.peer, made.network.find(made.peer).addresses

    await send_bundle(swarm_of(made, author), find, id_, lambda: delegation or made.delegation(author), bundle)


def swarm_of(made: House, who: Identity) -> Swarm:
    return made.network.peek(who.peer) or made.network.join(who)
