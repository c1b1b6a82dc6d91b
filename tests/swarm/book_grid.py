"""Maintainers as real processes that keep books, and payers and nodes of this process who hand statements in."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gridllm.charter.document import SignedCharter
from gridllm.charter.pin import Pins
from gridllm.identity.keys import Identity, load
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import Rulebook, sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Delegation, Grant, TabKey, Voucher
from gridllm.models.manifest import verify_manifest
from gridllm.models.sizes import block_parameters
from gridllm.swarm.libp2p import open_swarm
from tests.command import Running
from tests.swarm.authorities import NAME, Council
from tests.swarm.grid import LOOPBACK


class BookGrid(Council):
    """A grid with credit and the demo model; open unless ``flags`` say otherwise."""

    def __init__(self, folder: Path, *flags: str, count: int = 1, threshold: int = 1) -> None:
        admission = ("--open", "--ledger", "--newcomers", "nothing", *flags)
        super().__init__(folder, count=count, threshold=threshold, admission=admission)
        home = self.homes[0] / "data" / "gridllm" / "bootstrap"
        pins = Pins(home)
        self.signed: SignedCharter = pins.current()
        self.entry = self.signed.charter.models[0]
        manifest = verify_manifest(pins.manifest(self.entry.model_root) or b"", self.entry.model_root)
        self.rules = Rulebook(self.signed, {self.entry.root: block_parameters(manifest)})
        self.maintainers = [
            load(one / "data" / "gridllm" / "bootstrap" / "grids" / NAME / "maintainer.key") for one in self.homes
        ]

    def ledger_file(self, number: int = 0) -> Path:
        """Where a maintainer's books lie by default."""
        return self.homes[number] / "data" / "gridllm" / "bootstrap" / "grids" / NAME / "ledger.sqlite"

    def keep(self, number: int = 0, *flags: str) -> dict[str, Any]:
        """Run a maintainer's first peer; what it says of its books."""
        run = ("bootstrap", "run", "--json", "--pace", "brief", *flags)
        self.running[number] = Running(self.homes[number], *run)
        event: dict[str, Any] = json.loads(self.running[number].wait_for('"keeper"'))
        self.running[number].wait_for('"authority"')
        return event

    def grant(self, account: Identity, micro: int) -> bytes:
        """New credit, signed by the threshold."""
        said = Grant(
            grid=self.signed.grid,
            account=account.public_key.hex(),
            micro=micro,
            reason="for a test",
            serial=Identity.ephemeral().public_key.hex()[:32],
            issued=int(time.time()),
        )
        return sign(said, *self.maintainers[: self.signed.charter.threshold])

    def price(self, decode: int) -> int:
        """Of so many tokens through the whole model."""
        return self.rules.price(self.entry.root, 0, self.entry.blocks, Count(0, decode))

    def voucher(self, payer: Identity, payee: Identity, session: str, decode: int) -> bytes:
        """The payer owes for so many tokens."""
        tab = self.tab(payer, payee, session)
        said = Voucher(
            grid=self.signed.grid, issued=int(time.time()), prefill=0, decode=decode, micro=self.price(decode), **tab
        )
        return sign(said, payer)

    def tab(self, payer: Identity, payee: Identity, session: str) -> dict[str, Any]:
        """A bill for the whole model."""
        key = TabKey(session, payer.public_key.hex(), payee.public_key.hex(), self.entry.root, 0, self.entry.blocks)
        return key._asdict()

    def wish(self, payee: Identity, session: str, micro: int) -> Wish:
        """To be set aside for the whole model."""
        return Wish(session, payee.public_key.hex(), self.entry.root, 0, self.entry.blocks, micro)


class Guest:
    """A peer of this process, and its way to the keepers."""

    def __init__(self, grid: BookGrid, identity: Identity, keepers: Keepers) -> None:
        self.grid, self.identity, self.keepers = grid, identity, keepers

    def delegation(self, account: Identity) -> bytes:
        """This peer acts for ``account``."""
        now = int(time.time())
        said = Delegation(
            grid=self.grid.signed.grid,
            account=account.public_key.hex(),
            client=self.identity.peer,
            issued=now,
            expires=now + 3600,
        )
        return sign(said, account)

    async def submit(self, account: Identity, *raws: bytes) -> list[str]:
        """To the account's home keeper; the codes of what became of them."""
        home = self.keepers.home(account.public_key.hex())
        return [outcome.code for outcome in await self.keepers.submit(home, raws)]


@asynccontextmanager
async def guest(grid: BookGrid) -> AsyncIterator[Guest]:
    """Enter the grid."""
    identity = Identity.ephemeral()
    swarm = await open_swarm(identity, initial_peers=grid.addresses, host_maddrs=[LOOPBACK], namespace=grid.signed.grid)
    try:
        yield Guest(grid, identity, Keepers(swarm, grid.signed))
    finally:
        await swarm.close()
