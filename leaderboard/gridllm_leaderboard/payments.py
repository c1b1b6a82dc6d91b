"""Fees: transfers to the leaderboard's account whose memo names a submission. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gridllm.errors import LedgerError
from gridllm.ledger.paper import id_of
from gridllm.ledger.statements import Transfer

if TYPE_CHECKING:
    from gridllm.ledger.messages import HistoryRow
    from gridllm.ledger.paper import Rulebook

MEMO: Final = re.compile(r"^leaderboard ([0-9a-f]{32})$")
PREFIX_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Payment:
    """A transfer that names a submission."""

    transfer: str  # id, hex
    submission: str  # the first ``PREFIX_DIGITS`` of its id
    micro: int


def memo_for(submission: str) -> str:
    """What a transfer's memo says to pay for that submission."""
    return f"leaderboard {submission[:PREFIX_DIGITS]}"


def payments_in(rows: Iterable[HistoryRow], rules: Rulebook, account: str) -> list[Payment]:
    """Payments among an account's statements; every signature is checked, what does not hold is left out."""
    found = []
    for row in rows:
        try:
            said = rules.read(row.statement, row.log).statement
        except LedgerError:
            continue  # of no account's fee, or not to be believed
        if isinstance(said, Transfer) and said.payee == account and (match := MEMO.match(said.memo)):
            found.append(Payment(id_of(said).hex(), match[1], said.micro))
    return found
