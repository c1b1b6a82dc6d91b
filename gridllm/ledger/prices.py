"""What tokens cost: integer arithmetic that client, node, keeper and auditor do alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridllm.charter.economy import PARAMETERS, Prices


class Count(NamedTuple):
    """Tokens taken through a span."""

    prefill: int = 0
    decode: int = 0


def price(prices: Prices, parameters: int, count: Count) -> int:
    """Micro-credits for ``count`` tokens through a span of that many parameters, since the session began.

    Always of cumulative counts: rounding down happens once, not with every token.
    """
    return parameters * (count.prefill * prices.prefill + count.decode * prices.decode) // PARAMETERS


def window_price(prices: Prices, parameters: int, tokens: int) -> int:
    """Micro-credits that a node serves beyond the last voucher, at most: ``tokens`` of decoding; 1 at least."""
    return max(1, price(prices, parameters, Count(decode=tokens)))


def span_parameters(blocks: Sequence[int], start: int, end: int) -> int:
    """Parameters of the blocks [start, end); ``blocks`` as of ``models.sizes.block_parameters``."""
    return sum(blocks[start:end])
