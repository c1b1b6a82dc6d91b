"""What an account in good standing is trusted with while its keeper is silent: node and client judge alike. Pure."""

from __future__ import annotations

from typing import Final

from gridllm.charter.economy import Economy
from gridllm.ledger.statements import Pass

SKEW_S: Final = 300  # between one clock and another


def trusted(economy: Economy, access: Pass) -> int:
    """What a node risks on the account, micro-credits: no more than it had when its keeper last spoke."""
    return min(economy.trust, max(0, access.available, access.contribution))


def recent(economy: Economy, access: Pass, now_s: float) -> bool:
    """Whether the pass, in date or not, is young enough to earn trust."""
    return now_s - access.issued <= economy.good_standing_s + SKEW_S
