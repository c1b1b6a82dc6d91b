"""What ``gridllm bench`` measures, and against what: a grid's model and minimums, or the demo model without a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.charter.minimums import Admission
    from gridllm.charter.pin import Pins
    from gridllm.models.manifest import Manifest
    from gridllm.settings import Settings


@dataclass(frozen=True, slots=True)
class Subject:
    """A model's shape, and what a machine must reach with it."""

    entry: ModelEntry
    manifest: Manifest
    admission: Admission  # as amended
    grid: str | None = None  # id
    grid_name: str | None = None


def find_subject(settings: Settings, grid: str | None, model: str | None, path: Path | None) -> Subject:
    """The pinned grid's, or without any grid the demo model's (or that of ``model`` or ``path``).

    Raises:
        CharterError: no such grid, or it serves no such model.
        ModelError: nobody has the model's manifest, or the folder is none of a model.
        SwarmError: the grid cannot be reached, and the manifest is not here.
    """
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.pin import Pins
    from gridllm.cli.catalogue import find_entry

    pins = Pins(settings.data_dir)
    if grid is None and not pins.all():
        return _without_grid(model, path)
    signed = pins.current(grid)
    board = NoticeBoard(signed, pins.notices_path(signed))
    entry = find_entry(signed, pins, board, model)
    manifest = _manifest(signed, board, entry, pins, path)
    return Subject(entry, manifest, board.admission, signed.grid, signed.charter.name)


def _without_grid(model: str | None, path: Path | None) -> Subject:
    from gridllm.admission.defaults import default_admission, shape_of
    from gridllm.charter.document import ModelEntry
    from gridllm.models.families import read_config
    from gridllm.models.files import DEMO, find_model
    from gridllm.models.manifest import build_manifest, root

    folder = find_model(path or model or DEMO)
    config, manifest = read_config(folder), build_manifest(folder)
    entry = ModelEntry(
        name=DEMO if path is None and model in (None, DEMO) else "model",
        root=root(manifest),
        source="local",
        blocks=config.num_hidden_layers,
        parameters=sum(math.prod(tensor.shape) for tensor in manifest.tensors.values()),
        hidden_size=config.hidden_size,
        dtype="float32",
    )
    return Subject(entry, manifest, default_admission([shape_of(entry, manifest)]))


def _manifest(signed: SignedCharter, board: NoticeBoard, entry: ModelEntry, pins: Pins, path: Path | None) -> Manifest:
    """As kept from before; else from the folder or from a peer."""
    from gridllm.cli.runtime import run_async
    from gridllm.models.files import DEMO, find_model
    from gridllm.models.manifest import build_manifest, root, verify_manifest

    raw = pins.manifest(entry.model_root)
    if raw is not None:
        return verify_manifest(raw, entry.model_root)
    if path is not None or entry.source == DEMO:
        manifest = build_manifest(find_model(path or DEMO))
        if root(manifest) == entry.root:
            return manifest
    return run_async(_ask_peers(signed, board, entry, pins, path))


async def _ask_peers(
    signed: SignedCharter, board: NoticeBoard, entry: ModelEntry, pins: Pins, path: Path | None
) -> Manifest:
    from gridllm.admission.cards import leaderboard_sources
    from gridllm.charter.entering import visiting
    from gridllm.node.source import obtain_manifest
    from gridllm.swarm.directory import Directory

    async with visiting(signed, pins) as swarm:
        records = await Directory(swarm, signed.grid).nodes(entry.model_root)
        beside = await leaderboard_sources(swarm, signed, board, entry.root)
        first_peers = pins.initial_peers(signed)
        manifest, _ = await obtain_manifest(
            swarm, entry, pins, first_peers=first_peers, records=records, folder=path, beside=beside
        )
        return manifest
