"""What the ledger's commands share: whose account is meant, and a way to the grid's keepers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.ledger.keepers import Keepers

ACCOUNT: Final = re.compile(r"[0-9a-f]{64}")


@contextlib.asynccontextmanager
async def asking_keepers(signed: SignedCharter, pins: Pins) -> AsyncIterator[Keepers]:
    """Join the grid for as long as the block lasts, as somebody who only asks. Raises SwarmError."""
    from gridllm.cli.show import stderr
    from gridllm.identity.keys import Identity
    from gridllm.ledger.keepers import Keepers
    from gridllm.swarm.libp2p import open_swarm

    with stderr().status(f"Looking for the ledger's keepers of {signed.charter.name}…"):
        swarm = await open_swarm(
            Identity.ephemeral(), initial_peers=pins.initial_peers(signed), client_only=True, namespace=signed.grid
        )
    try:
        yield Keepers(swarm, signed)
    finally:
        await swarm.close()


def account_named(text: str) -> str:
    """A peer id, or an account's key in hex → the account.

    Raises:
        UsageError: neither.
    """
    from gridllm.errors import IdentityError, UsageError
    from gridllm.ids import PeerId
    from gridllm.ledger.statements import account_of

    if ACCOUNT.fullmatch(text.lower()):
        return text.lower()
    try:
        return account_of(PeerId(text))
    except IdentityError as error:
        raise UsageError(
            f"{text!r} is no account; give a peer id (12D3Koo…) or a public key of 64 hex digits, as gridllm id shows."
        ) from error


def check_metered(signed: SignedCharter) -> None:
    """
    Raises:
        LedgerError: the grid keeps no books.
    """
    from gridllm.errors import LedgerError

    if not signed.charter.economy.required:
        raise LedgerError(
            f"The grid {signed.charter.name!r} keeps no ledger: nothing is metered there, and nothing costs credit."
        )
