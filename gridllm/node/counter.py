"""Where a serving node is paid: till, purse and the way to the keepers, put together for one stay in the grid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import Rulebook
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import block_parameters
from gridllm.node.handing import HandIn
from gridllm.node.purse import Purse
from gridllm.node.till import Till
from gridllm.swarm.interface import Swarm


@dataclass(frozen=True, slots=True)
class Counter:
    """What the node's service needs to be paid."""

    till: Till
    purse: Purse
    handing: HandIn


@asynccontextmanager
async def counter_in(
    swarm: Swarm,
    signed: SignedCharter,
    entry: ModelEntry,
    manifest: Manifest,
    identity: Identity | None,
    path: Path,
    certificate: bytes,
) -> AsyncIterator[Counter | None]:
    """Open it until the end of the block, by when the service has stopped; None in a grid that keeps no books.

    Args:
        identity: whose work is paid.
        path: of the purse.
        certificate: the node's own, for the books.

    Raises:
        LedgerError: the purse cannot be opened.
    """
    if not signed.charter.economy.required:
        yield None
        return
    if identity is None:
        raise LedgerError("In this grid nodes are paid, and this one has no key to be paid with.")
    account = identity.public_key.hex()
    keepers = Keepers(swarm, signed)
    rules = Rulebook(signed, {entry.root: block_parameters(manifest)})
    async with Purse(path) as purse:
        handing = HandIn(purse, keepers, signed.grid, identity)
        if certificate:
            handing.enrol(certificate)
        running = asyncio.create_task(handing.run())
        try:
            yield Counter(Till(signed, entry, rules, account, keepers, purse), purse, handing)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await handing.last()
