"""New credit, signed by the charter's threshold of maintainers: the only way it comes into being."""

from __future__ import annotations

import secrets
import time
from typing import Final

from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import MAX_MICRO
from gridllm.charter.entering import visiting
from gridllm.charter.pin import Pins
from gridllm.errors import LedgerError, SwarmError, UsageError
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.statements import Grant, account_named

MAX_REASON_CHARS: Final = 200


def grant_of(signed: SignedCharter, to: str, micro: int, reason: str) -> Grant:
    """The grant that was typed.

    Raises:
        UsageError: this grid keeps no books, no such account, nothing to grant, or no reason.
    """
    if not signed.charter.economy.required:
        raise UsageError(
            f"The grid {signed.charter.name!r} keeps no books; grids with credit are founded with --ledger."
        )
    account = account_named(to)
    if not 0 < micro < MAX_MICRO:
        raise UsageError("A grant must be above 0 and below 4,611,686,018,427 credits.")
    if not 1 <= len(reason.strip()) <= MAX_REASON_CHARS:
        raise UsageError(f"Say in up to {MAX_REASON_CHARS} characters why, with --why: everyone can read it.")
    return Grant(
        grid=signed.grid,
        account=account,
        micro=micro,
        reason=reason.strip(),
        serial=secrets.token_hex(16),
        issued=int(time.time()),
    )


async def book(signed: SignedCharter, pins: Pins, raw: bytes, account: str) -> str:
    """Hand a grant to the account's home keeper, or to any other that answers → who took it (hex key).

    Raises:
        LedgerError: it was refused.
        SwarmError: no keeper answers; the same grant may be handed in again at any time.
    """
    async with visiting(signed, pins) as swarm:
        keepers = Keepers(swarm, signed)
        home = keepers.home(account)
        silent: SwarmError | None = None
        for keeper in (home, *(one for one in signed.charter.keepers if one != home)):
            try:
                (outcome,) = await keepers.submit(keeper, [raw])
            except SwarmError as error:
                silent = error
                continue
            if outcome.code not in ("accepted", "known"):
                raise LedgerError(f"The keeper {keeper[:16]}… did not take the grant: {outcome.text}")
            return keeper
        raise SwarmError(f"No keeper of the grid takes the grant now; start one with gridllm bootstrap run. ({silent})")
