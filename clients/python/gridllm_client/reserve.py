"""What is set aside for the nodes of one session: how much, when more, and asking the home keeper for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from gridllm.ledger.messages import Wish
from gridllm.ledger.prices import Count
from gridllm_client.tab import Tab
from gridllm_client.terms import Terms
from gridllm_client.wallet import Wallet

OPENING_WINDOWS: Final = 4  # set aside at first for a session of unknown length; doubled as it goes on
SPARE_WINDOWS: Final = 2  # of them left: time to ask for more
RENEW: Final = 0.49  # of an escrow's life left: keepers prolong none with more than half


class Reserve:
    """The escrows of one session."""

    def __init__(self, wallet: Wallet, terms: Terms, *, clock: Callable[[], float] = time.time) -> None:
        self._wallet = wallet
        self._terms = terms
        self._clock = clock

    async def fill(self, tabs: Collection[Tab], tokens: int = 0) -> None:
        """Have enough set aside for all ``tabs``, in one call, or for none.

        Args:
            tokens: of all rows, which each hop may have to be fed again.

        Raises:
            KeeperSilent, Insufficient, Refusal: as ``Wallet.escrows``.
        """
        wishes = []
        for tab in tabs:
            session, _, payee, model, start, end = tab.key
            wishes.append(Wish(session, payee, model, start, end, self._wanted(tab, tokens)))
        if wishes:
            for tab, (raw, escrow) in zip(tabs, await self._wallet.escrows(wishes), strict=True):
                tab.reserved(escrow, raw)

    def ends(self, tab: Tab) -> bool:
        """Whether it will need more, or another, soon; on trust: at once."""
        return self.aging(tab) or tab.owed + self._spare(tab) > tab.covered

    def aging(self, tab: Tab) -> bool:
        """Whether the escrow ends soon."""
        return tab.expires - self._clock() < RENEW * self._wallet.economy.escrow_s

    def _spare(self, tab: Tab) -> int:
        return 0 if self._terms.tokens else SPARE_WINDOWS * tab.tariff.window

    def _wanted(self, tab: Tab, tokens: int) -> int:
        """Micro-credits to ask for: what the session will cost, as far as can be told."""
        cost, window = tab.tariff.cost, tab.tariff.window
        floor = tab.owed + cost(Count(prefill=tokens))
        if self._terms.tokens:
            rows, prompt = self._terms.rows, self._terms.prompt
            return max(floor, window, tab.covered, cost(Count(rows * prompt, rows * (self._terms.tokens - prompt))))
        if floor + self._spare(tab) <= tab.covered:
            return tab.covered  # it only needs to last longer
        return max(floor + OPENING_WINDOWS * window, 2 * tab.covered)
