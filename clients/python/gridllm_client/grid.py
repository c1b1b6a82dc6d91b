"""A grid, as its user enters it."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from gridllm.charter.catalogue import CHAMPION
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.pin import Pins
from gridllm.errors import UsageError
from gridllm.identity.keys import Identity, load
from gridllm.models.files import find_model
from gridllm.settings import load_settings
from gridllm.swarm.interface import Swarm
from gridllm.wire.record import NodeRecord
from gridllm_client.net import Net
from gridllm_client.runtime import Runtime

if TYPE_CHECKING:
    from gridllm_client.champion import Reign
    from gridllm_client.loaded import Loaded
    from gridllm_client.model import GridModel

LEAVE_TIMEOUT_S: Final = 10.0  # for closing links and leaving the network


class Grid:
    """The grid this machine has joined.

    ::

        with Grid() as grid:
            print(grid.model("demo").generate("Once upon a time"))

    It owns one background thread with an event loop and one connection to the network, both ended by ``close`` (or
    when it is garbage, or at exit). It takes part under a throw-away identity, so any number may exist.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        name: str | None = None,
        swarm: Swarm | None = None,
        reports: bool | None = None,
        account: Path | str | Identity | None = None,
    ) -> None:
        """Enter the network.

        Args:
            home: the data folder; the default is the one ``gridllm join`` uses.
            name: which of the grids joined; the default is the last.
            swarm: take part through this one (in tests: in memory), which stays the caller's to close.
            reports: tell the grid's authorities how fast its nodes served (which nodes, how many tokens, how long; no
                text); the default is the setting's, which is yes.
            account: key, or key file, of the account that pays where the grid keeps a ledger; the default is this
                machine's own (``gridllm id``). Without a key there it is served as the charter serves strangers.

        Raises:
            CharterError: no grid joined yet.
            IdentityError: the account's key cannot be used.
            SwarmError: none of the grid's known peers can be reached.
        """
        self._pins = Pins(Path(home) if home is not None else load_settings().data_dir)
        self.charter: SignedCharter = self._pins.current(name)
        payer = _account(account, self._pins.data_dir) if self.charter.charter.economy.required else None
        self._runtime = Runtime()
        told = load_settings().reports if reports is None else reports
        self._net = Net(self.charter, self._pins, reports=told)
        self._closer = weakref.finalize(self, _close, self._runtime, self._net)
        entering = self._runtime.start(self._net.enter(swarm, payer))
        try:
            # With torch, which takes seconds to import: the network is entered meanwhile.
            from gridllm_client.loading import Loader

            entering.result()
        except BaseException:
            entering.cancel()
            self._closer()
            raise
        self._loader = Loader(self._net)
        self._models: dict[tuple[str, str | None, str | None], GridModel] = {}

    def model(self, name: str | None = None, *, dtype: str | None = None, path: Path | str | None = None) -> GridModel:
        """A model of the grid; loads its embedding and head on first use.

        Args:
            name: as the grid lists it, its root, or ``@champion``: whichever leads the leaderboard when a generation
                begins; the default is the grid's first.
            dtype: use nodes that serve it in this one; the default is the charter's.
            path: folder of its files; without it they come from the Hub, or from the grid's seeds.

        Raises:
            CharterError: the grid serves no such model, or has no champion.
            UsageError: no such dtype; or a path with ``@champion``.
            ModelError: its files cannot be found, or are not the grid's.
        """
        from gridllm_client.model import GridModel

        entry = self._runtime.run(self._net.entry(name))
        key = CHAMPION if name == CHAMPION else entry.root, dtype, None if path is None else str(path)
        if key not in self._models:
            source = self._champion(dtype, path) if name == CHAMPION else self._load(entry, dtype, path)
            self._models[key] = GridModel(self._runtime, self._net.pool, source, self._net.reporter, self._net.wallet)
        return self._models[key]

    def status(self) -> dict[str, list[NodeRecord]]:
        """Who serves what now: the admitted nodes of each model, by the model's name.

        Raises:
            SwarmError: the directory did not answer.
        """
        return self._runtime.run(self._net.status())

    def balance(self) -> int | None:
        """Micro-credits of the account that pays, by its keeper's books; vouchers of the last minute may lack in them.

        None: the grid keeps no ledger, there is no account, or its keeper does not answer.
        """
        return self._runtime.run(self._net.balance())

    def close(self) -> None:
        """Leave the network and end the thread; idempotent."""
        self._closer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, entry: ModelEntry, dtype: str | None, path: Path | str | None) -> Loaded:
        from gridllm.models.borrowed import name_model
        from gridllm_client.loading import folder_of

        # On this thread: a download from the Hub can be interrupted here only.
        folder = folder_of(entry) if path is None else find_model(path)
        if folder is None:
            name_model(load_settings().cache_dir, entry.model_root)
        return self._runtime.run(self._loader.load(entry, dtype, folder))

    def _champion(self, dtype: str | None, path: Path | str | None) -> Reign:
        from gridllm_client.champion import Reign

        if path is not None:
            raise UsageError(f"{CHAMPION} changes over time, so no folder can be given for it.")
        loader, net = self._loader, self._net

        async def load(entry: ModelEntry) -> Loaded:
            return await loader.load(entry, dtype)

        return self._runtime.run(Reign.begin(net.catalogue, load, net.hear))


def _account(given: Path | str | Identity | None, data_dir: Path) -> Identity | None:
    """The account that pays; None: nothing was named, and this machine has no key."""
    if isinstance(given, Identity):
        return given
    if given is not None:
        return load(Path(given))
    path = load_settings().identity or data_dir / "identity.key"
    return load(path) if path.exists() else None


def _close(runtime: Runtime, net: Net) -> None:
    goodbye: Coroutine[Any, Any, None] = net.leave()
    runtime.close(goodbye, LEAVE_TIMEOUT_S)
