"""Where a serving node is paid: tills, purse and the way to the keepers, put together for one stay in the grid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import Rulebook
from gridllm.models.manifest import Manifest
from gridllm.models.sizes import block_parameters
from gridllm.node.counter.handing import HandIn
from gridllm.node.counter.purse import Purse
from gridllm.node.counter.till import Till
from gridllm.swarm.interface import Swarm
from gridllm.tasks import end


class Counter:
    """What the services of a node's models need to be paid: a till each, and one purse."""

    def __init__(
        self,
        signed: SignedCharter,
        account: str,
        keepers: Keepers,
        purse: Purse,
        handing: HandIn,
        catalogue: Catalogue | None = None,
    ) -> None:
        """
        Args:
            account: who is paid (hex key).
            catalogue: tells what submitted models ask for; None: only the charter's are served.
        """
        self._catalogue = catalogue
        self.purse = purse
        self.handing = handing
        self._signed = signed
        self._account = account
        self._keepers = keepers
        self._blocks: dict[str, Sequence[int]] = {}
        self._first: Till | None = None

    def till(self, entry: ModelEntry, manifest: Manifest) -> Till:
        """For sessions of that model."""
        self._blocks[entry.root] = block_parameters(manifest)
        if self._first is not None:
            return self._first.beside(entry)
        rules = Rulebook(self._signed, self._blocks)
        catalogue = self._catalogue
        self._first = Till(
            self._signed,
            entry,
            rules,
            self._account,
            self._keepers,
            self.purse,
            contribution=None if catalogue is None else catalogue.contribution,
            served=lambda root: catalogue is None or catalogue.entry(root) is not None,
        )
        return self._first


@asynccontextmanager
async def counter_in(
    swarm: Swarm,
    signed: SignedCharter,
    identity: Identity | None,
    path: Path,
    certificate: bytes,
    board: NoticeBoard | None = None,
) -> AsyncIterator[Counter | None]:
    """Open it until the end of the block, by when all services have stopped; None in a grid that keeps no books.

    Args:
        identity: whose work is paid.
        path: of the purse.
        certificate: the node's own, for the books.
        board: tells what submitted models ask for; None: only the charter's are served.

    Raises:
        LedgerError: the purse cannot be opened.
    """
    if not signed.charter.economy.required:
        yield None
        return
    if identity is None:
        raise LedgerError("Nodes are paid in this grid, and this one has no key to be paid with.")
    keepers = Keepers(swarm, signed)
    async with Purse(path) as purse:
        handing = HandIn(purse, keepers, signed.grid, identity)
        if certificate:
            handing.enrol(certificate)
        running = asyncio.create_task(handing.run())
        try:
            catalogue = None if board is None else Catalogue(signed, board)
            yield Counter(signed, identity.public_key.hex(), keepers, purse, handing, catalogue)
        finally:
            await end(running)
            await handing.last()
