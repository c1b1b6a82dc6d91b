"""Transfers that were signed and not answered yet, on disk: a crash between sending and the answer pays once.

A transfer is its serial: handed in again, the same file is "known" to the keeper and moves nothing. So it is kept until
the home keeper has answered, and whoever sends next hands it in first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gridllm.charter.document import SignedCharter
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import LedgerError, NodeFault, PutOff, Refusal, StatementError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import verify_statement
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import MAX_LEDGER_STATEMENT_BYTES, TRANSFER_TYPE, Transfer

MOVED: Final = ("accepted", "known")
UNDECIDED: Final = ("later", NodeFault.code)  # of outcomes


class Pending(NamedTuple):
    """A transfer whose answer did not come."""

    path: Path
    raw: bytes
    transfer: Transfer


@dataclass(frozen=True, slots=True)
class Outbox:
    """One account's unanswered transfers in one grid."""

    folder: Path
    signed: SignedCharter
    identity: Identity  # the account's
    clock: Callable[[], float] = time.time

    @property
    def account(self) -> str:
        """Whose transfers these are, in hex."""
        return self.identity.public_key.hex()

    def pending(self) -> list[Pending]:
        """Oldest first. Files that are none of this account's transfers are left alone."""
        found = []
        for path in self.folder.glob(f"{self.account[:16]}-*.json"):
            try:
                raw = path.read_bytes()[: MAX_LEDGER_STATEMENT_BYTES + 1]
                said = verify_statement(raw, Transfer, TRANSFER_TYPE, [self.identity.public_key], 1)
            except (OSError, StatementError):
                continue
            if said.grid == self.signed.grid:
                found.append(Pending(path, raw, said))
        return sorted(found, key=lambda one: (one.transfer.issued, one.transfer.serial))

    def write(self, payee: str, micro: int, memo: str) -> Pending:
        """Sign a transfer and keep it.

        Raises:
            LedgerError: the folder cannot be written.
        """
        said = Transfer(
            grid=self.signed.grid,
            payer=self.account,
            payee=payee,
            micro=micro,
            memo=memo,
            serial=secrets.token_hex(16),
            issued=int(self.clock()),
        )
        path = self.folder / f"{self.account[:16]}-{said.serial}.json"
        raw = sign(said, self.identity)
        try:
            make_private_dir(self.folder)
            write_atomically(path, raw, mode=0o600)
        except OSError as error:
            raise LedgerError(
                f"The transfer cannot be kept in {self.folder} ({error.strerror}); nothing was sent."
            ) from error
        return Pending(path, raw, said)

    async def hand_in(self, keepers: Keepers, pending: Pending) -> bool:
        """Give it to the account's home keeper; whether it moves credit only now (else it did before).

        Raises:
            KeeperSilent: nobody knows what became of it; it is kept and can be handed in again.
            PutOff: the same, and the keeper says why: it has too much to do, or is about to stop.
            Refusal: it was declined for good, and is forgotten.
        """
        home = keepers.home(self.account)
        try:
            (outcome,) = await keepers.submit(home, [pending.raw])
        except Refusal as refusal:  # of the call, before anything in it was read
            raise PutOff(home, str(refusal).removesuffix(".") or refusal.code) from refusal
        if outcome.code in UNDECIDED:
            raise PutOff(home, outcome.text.removesuffix(".") or outcome.code)
        pending.path.unlink(missing_ok=True)
        if outcome.code not in MOVED:
            raise Refusal.from_wire(outcome.code, outcome.text or f"The keeper declined the transfer: {outcome.code}.")
        return outcome.code == "accepted"
