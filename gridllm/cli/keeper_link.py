"""What the ledger's commands share: a way to the grid's keepers, and whether there are any."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.ledger.keepers import Keepers


@contextlib.asynccontextmanager
async def asking_keepers(signed: SignedCharter, pins: Pins) -> AsyncIterator[Keepers]:
    """Join the grid for as long as the block lasts, as somebody who only asks. Raises SwarmError."""
    from gridllm.charter.entering import visiting
    from gridllm.cli.work import step
    from gridllm.ledger.keepers import Keepers

    async with contextlib.AsyncExitStack() as stack:
        with step(f"Looking for the ledger's keepers of {signed.charter.name}"):
            swarm = await stack.enter_async_context(visiting(signed, pins))
        yield Keepers(swarm, signed)


def check_metered(signed: SignedCharter) -> None:
    """
    Raises:
        LedgerError: the grid keeps no books.
    """
    from gridllm.errors import LedgerError

    if not signed.charter.economy.required:
        raise LedgerError(
            f"The grid {signed.charter.name!r} keeps no ledger: nothing is metered, and nothing costs credit."
        )
