"""What credit costs and what it opens: the charter's policy for the ledger, readable in one screen.

Amounts are integer micro-credits. One credit is a million of them: at the default price, one token through a billion
parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from gridllm.identity.fields import HexDigest, HexKey, Strict

MAX_MICRO: Final = 2**62  # of one amount: sums of two still fit a database's 64-bit integer
PARAMETERS: Final = 1_000_000  # prices are for so many parameters

Micro = Annotated[int, Field(ge=0, lt=MAX_MICRO)]
"""An amount in micro-credits."""


class Prices(Strict):
    """Micro-credits for one token through a million parameters."""

    decode: Annotated[int, Field(ge=0, le=10**9)] = 1000  # a row's first token in a call: text appearing
    prefill: Annotated[int, Field(ge=0, le=10**9)] = 250  # a call's other tokens (a prompt's), and replays


class Tier(Strict):
    """A model that only contributors may use."""

    model: HexDigest  # root
    contribution: Annotated[int, Field(ge=1, lt=MAX_MICRO)]  # earned minus spent and sent, at least


class Economy(Strict):
    """Prices, escrow and access of one grid."""

    required: bool = False  # False: nothing is metered, nothing is paid, everybody is equal
    keepers: Annotated[tuple[HexKey, ...], Field(max_length=16)] = ()  # maintainers that keep the books; (): all
    prices: Prices = Prices()
    window_tokens: Annotated[int, Field(ge=1, le=65536)] = 64  # at the decode price: served beyond the last voucher
    starter: Micro = 0  # granted once to every account that is admitted to serve
    newcomers: Literal["nothing", "allowance", "lowest"] = "lowest"  # what an account that cannot pay may do
    allowance: Micro = 0  # for ``allowance``: given to each account every UTC day; nodes are not paid for it
    trust: Micro = 0  # what one node serves one account in good standing without escrow while its keeper is silent
    pass_s: Annotated[int, Field(ge=30, le=86400)] = 600  # life of an access pass
    good_standing_s: Annotated[int, Field(ge=30, le=31 * 86400)] = 86400  # how long after its issue a pass earns trust
    escrow_s: Annotated[int, Field(ge=60, le=7 * 86400)] = 1800  # an escrow's life since it was last raised
    classes: Annotated[tuple[Annotated[int, Field(ge=1, lt=MAX_MICRO)], ...], Field(max_length=8)] = ()
    """Contributions from which on a paying account is served before those below: rising."""
    tiers: Annotated[tuple[Tier, ...], Field(max_length=64)] = ()
    submit: Micro = 0  # contribution needed to submit a model to the leaderboard

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(set(self.classes)) != list(self.classes):
            raise ValueError("classes must rise")
        if len({tier.model for tier in self.tiers}) != len(self.tiers):
            raise ValueError("a model has two tiers")
        if len(set(self.keepers)) != len(self.keepers):
            raise ValueError("a keeper is listed twice")
        if self.newcomers == "allowance" and not self.allowance:
            raise ValueError("newcomers are given an allowance of nothing")
        return self

    def tier(self, model: str) -> int:
        """Contribution, in micro-credits, that the model of that root asks for; 0: none."""
        return next((tier.contribution for tier in self.tiers if tier.model == model), 0)

    def priority(self, contribution: int) -> int:
        """Class in the batch of a session that pays, 1 and up; sessions that do not pay are of class 0."""
        return 1 + sum(contribution >= needed for needed in self.classes)


def home_of(account: str, keepers: Sequence[str]) -> str:
    """The keeper (hex key) that alone may let ``account`` (hex key) spend: nobody can spend one balance twice.

    Rendezvous hashing (Thaler and Ravishankar, 1998): every reader of the charter finds the same one.
    """
    return max(keepers, key=lambda keeper: hashlib.sha256(f"{keeper}|{account}".encode("ascii")).digest())
