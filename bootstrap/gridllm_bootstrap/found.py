"""Founding a grid: keys, manifests of its models, and the charter that names them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from gridllm.charter.document import NAME_PATTERN, Charter, ModelEntry, SignedCharter, sign_charter
from gridllm.charter.pin import Pins
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import CharterError, UsageError
from gridllm.identity.keys import Identity, load_or_create
from gridllm_bootstrap.listen import Listening, first_peer_addresses

Progress = Callable[[str, int, int], None]
"""Called with a model's name, bytes digested, bytes in all."""

WIRE_DTYPES: Final = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # safetensors name → ours
DEMO_DTYPE: Final = "float32"  # its weights ship as bfloat16 only to be small; old processors are slow in that


@dataclass(frozen=True, slots=True)
class Home:
    """The maintainer's folder. Charters, known peers and manifests in it have the layout of a volunteer's ``Pins``."""

    root: Path

    @property
    def pins(self) -> Pins:
        """Charters and manifests of the grids founded here."""
        return Pins(self.root)

    def folder(self, name: str) -> Path:
        """Where the files of one grid are."""
        return self.root / "grids" / name

    def maintainer_key(self, name: str) -> Path:
        """Signs the charter; needed again only to sign for the grid, so it may be kept offline."""
        return self.folder(name) / "maintainer.key"

    def peer_key(self, name: str) -> Path:
        """The first peer's libp2p identity; its peer id stands in the charter."""
        return self.folder(name) / "peer.key"

    def listening(self, name: str) -> Listening:
        """How the first peer starts.

        Raises:
            CharterError: ``listen.json`` is missing or damaged.
        """
        path = self.folder(name) / "listen.json"
        try:
            return Listening.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CharterError(f"{path} is missing or damaged; restore it from a backup.") from error


@dataclass(frozen=True, slots=True)
class ModelWish:
    """A model the maintainer wants served, as typed."""

    source: str  # "demo", a folder, or a Hub id
    revision: str | None
    dtype: str | None  # None: as stored


def found_grid(
    home: Home,
    name: str,
    wishes: Sequence[ModelWish],
    *,
    host_maddrs: list[str],
    announce_maddrs: list[str],
    progress: Progress,
) -> SignedCharter:
    """Write keys, manifests and charter of a new grid below ``home``; nothing that exists is overwritten.

    Raises:
        UsageError: a name or address that cannot be used, or a grid of that name exists here.
        ModelError: a model that cannot be found or served.
        CharterError, IdentityError: the folder cannot be written.
    """
    _check_name(name)
    folder = home.folder(name)
    if folder.exists():
        raise UsageError(
            f"{folder} exists already, and founding never overwrites a grid; run: gridllm bootstrap run --name "
            f"{name!r} — or choose another name."
        )
    # Everything that can fail comes before the first file is written.
    peer_identity, maintainer = Identity.ephemeral(), Identity.ephemeral()
    first_peer_addresses(peer_identity.peer, host_maddrs, announce_maddrs)
    described = [_describe(wish, progress) for wish in wishes]

    maintainer, peer_identity = load_or_create(home.maintainer_key(name)), load_or_create(home.peer_key(name))
    charter = Charter(
        name=name,
        maintainers=[maintainer.public_key.hex()],
        threshold=1,
        first_peers=first_peer_addresses(peer_identity.peer, host_maddrs, announce_maddrs),
        models=[entry for entry, _ in described],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    signed = sign_charter(charter, [maintainer])
    for entry, manifest in described:
        home.pins.save_manifest(entry.model_root, manifest)
    listening = Listening(host_maddrs=host_maddrs, announce_maddrs=announce_maddrs)
    try:
        make_private_dir(folder)
        write_atomically(folder / "listen.json", listening.model_dump_json(indent=1).encode())
    except OSError as error:
        raise CharterError(f"The grid's files cannot be written to {folder} ({error.strerror}).") from error
    home.pins.pin(signed)
    return signed


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"A grid cannot be called {name!r}; use up to 64 letters, digits, blanks, dots, hyphens or underscores, "
            "with a letter or digit at both ends."
        )


def _describe(wish: ModelWish, progress: Progress) -> tuple[ModelEntry, bytes]:
    """One model's charter entry and its manifest.

    Raises:
        ModelError: it cannot be found or served.
        UsageError: its name or dtype cannot stand in a charter.
    """
    from gridllm.models.families import read_config
    from gridllm.models.files import DEMO, find_model
    from gridllm.models.manifest import build_manifest, manifest_bytes, root

    path = find_model(wish.source, wish.revision)
    from_folder = wish.source != DEMO and Path(wish.source).expanduser().is_dir()
    name = path.resolve().name if from_folder else wish.source.split("/")[-1]
    config = read_config(path)
    manifest = build_manifest(path, lambda done, total: progress(name, done, total))
    largest = max(manifest.tensors.values(), key=lambda tensor: tensor.size)
    fields = {
        "name": name,
        "root": root(manifest),
        "source": "local" if from_folder else wish.source,
        "revision": None if from_folder or wish.source == DEMO else wish.revision or path.name,  # a snapshot's commit
        "blocks": config.num_hidden_layers,
        "parameters": sum(math.prod(tensor.shape) for tensor in manifest.tensors.values()),
        "hidden_size": config.hidden_size,
        "dtype": wish.dtype or (DEMO_DTYPE if wish.source == DEMO else WIRE_DTYPES.get(largest.dtype, "float32")),
    }
    try:
        return ModelEntry.model_validate(fields), manifest_bytes(manifest)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UsageError(
            f"The model {wish.source!r} cannot stand in a charter: its {fault['loc'][0]} is {fault['input']!r} "
            f"({fault['msg']})."
        ) from error
