"""What rows say beyond the statements they were made from, and how it is known to be unaltered."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from gridllm.admission.certificate import Certificate
from gridllm.ids import PeerId
from gridllm.ledger.fold import Tab
from gridllm.ledger.paper import Statement
from gridllm.ledger.statements import Grant, account_of

SEAL_BYTES: Final = 8


def seal(*fields: int | str | bytes | None) -> bytes:
    """A checksum over a row's values, 8 bytes: finds damage, such as a disk's.

    It keeps nobody from writing another row with its own seal. What must not be forged is signed, and in the log.
    """
    return hashlib.blake2b(msgspec.msgpack.encode(fields), digest_size=SEAL_BYTES).digest()


def parties(statement: Statement) -> tuple[str | None, str]:
    """Whom a statement names: the account it takes from, if any, and the one it gives to."""
    if isinstance(statement, Grant):
        return None, statement.account
    if isinstance(statement, Certificate):
        return None, account_of(PeerId(statement.peer))
    return statement.payer, statement.payee


def holds(tab: Tab) -> int:
    """What the tab sets aside until it expires."""
    return 0 if tab.released else tab.escrow - tab.paid
