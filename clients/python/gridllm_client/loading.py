"""Getting a model of the grid ready on this machine: its manifest, embedding, head and tokenizer."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from gridllm.admission.cards import leaderboard_sources
from gridllm.charter.document import ModelEntry
from gridllm.charter.fetch import ask_for_manifest
from gridllm.errors import GridError, ModelError
from gridllm.settings import load_settings
from gridllm.swarm.helpers import Addresses, Helpers
from gridllm_client.loaded import Loaded
from gridllm_client.net import Net
from gridllm_client.routes import Routes
from gridllm_client.terms import Terms

if TYPE_CHECKING:
    from gridllm.models.manifest import Manifest

ASK_TIMEOUT_S: Final = 5.0  # for a peer to send a manifest

Key = tuple[str, str, str]
"""Root, dtype and folder ("": to be found)."""


class Loader:
    """Loads models once, and holds them for as long as anybody does. Lives on the grid's loop."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._held: WeakValueDictionary[Key, Loaded] = WeakValueDictionary()
        self._loading: dict[Key, asyncio.Lock] = {}  # several may want one at once

    async def load(self, entry: ModelEntry, dtype: str | None = None, folder: Path | None = None) -> Loaded:
        """The model, ready for generations.

        Args:
            dtype: use nodes that serve it in this one; None: the entry's.
            folder: where its files are; None: they come from the Hub, or from the grid's seeds.

        Raises:
            UsageError: no such dtype.
            ModelError: its files cannot be found, or are not the grid's.
        """
        key = entry.root, dtype or entry.dtype, str(folder or "")
        async with self._loading.setdefault(key, asyncio.Lock()):
            loaded = self._held.get(key)
            if loaded is None:
                loaded = self._held[key] = await self._load(entry, dtype or entry.dtype, folder)
            return loaded

    async def _load(self, entry: ModelEntry, dtype_name: str, folder: Path | None) -> Loaded:
        from gridllm.models.ends import Ends
        from gridllm.models.manifest import verify_manifest
        from gridllm.models.sizes import block_parameters
        from gridllm.wire.tensor import dtype_named

        net, dtype = self._net, dtype_named(dtype_name)
        manifest = await asyncio.to_thread(verify_manifest, await self._manifest(entry), entry.model_root)
        if folder is None:
            folder = await asyncio.to_thread(folder_of, entry) or await self._fetched(entry, manifest)
        ends = await asyncio.to_thread(Ends.load, folder, manifest, dtype)
        terms = Terms(model=entry.model_root, blocks=entry.blocks, hidden_size=entry.hidden_size, dtype=dtype)
        routes = Routes(net.directory, net.pool, entry.model_root, dtype_name, name=entry.name, gate=net.gate)
        if net.wallet is not None:
            net.wallet.learn(entry.model_root, block_parameters(manifest))
        return Loaded(entry.name, terms, routes, ends)

    async def _manifest(self, entry: ModelEntry) -> bytes:
        """As kept from before, or from any peer that has it."""
        net, root = self._net, entry.model_root
        raw = await asyncio.to_thread(net.pins.manifest, root)
        if raw is not None:
            return raw
        raw = await ask_for_manifest(net.pool.swarm, await self._askable(entry), root, timeout_s=ASK_TIMEOUT_S)
        if raw is None:
            raise ModelError(f"No peer could send the manifest of {entry.name!r}; try again when a node is up.")
        await asyncio.to_thread(net.pins.save_manifest, root, raw)
        return raw

    async def _askable(self, entry: ModelEntry) -> Addresses:
        net = self._net
        found = dict(await leaderboard_sources(net.pool.swarm, net.signed, net.board, entry.root))
        found |= dict(net.pins.peers(net.signed))
        with contextlib.suppress(GridError):
            records = await net.directory.nodes(entry.model_root)
            found |= {record.peer: tuple(record.addresses) for record in records}
        return found

    async def _fetched(self, entry: ModelEntry, manifest: Manifest) -> Path:
        """Embedding, head and tokenizer as seeds, nodes and the leaderboard hand them out, kept in the cache.

        Raises:
            ModelError: nobody does.
        """
        from gridllm.models.fetching import obtain_weights

        net, root = self._net, entry.model_root
        helpers = Helpers(net.pool.swarm, net.signed.grid, net.gate.admit_helper)

        async def find() -> Addresses:
            nodes = await net.directory.nodes(root)
            held = {one.peer: tuple(one.addresses) for one in nodes if one.state != "joining"}
            listed = await leaderboard_sources(net.pool.swarm, net.signed, net.board, root)
            return {**listed, **held, **await helpers.seeds(root)}

        cache_dir = load_settings().cache_dir
        return await obtain_weights(net.pool.swarm, root, manifest, cache_dir, find, name=entry.name, ends=True)


def folder_of(entry: ModelEntry) -> Path | None:
    """Where the model's embedding and head are; downloads those shards when it is on the Hub. None: to be fetched."""
    from gridllm.models.files import find_model

    return None if entry.source == "local" else find_model(entry.source, entry.revision, ends=True)
