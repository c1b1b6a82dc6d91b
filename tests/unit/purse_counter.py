"""A node's purse, sessions that it was paid for, and the keepers that its vouchers go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gridllm.identity.keys import Identity
from gridllm.ledger.statements import TabKey
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.handing import HandIn
from gridllm.node.counter.purse import Purse
from tests.charters import ENTRY
from tests.ledgers import SESSION, hex_of
from tests.unit.node_paying import Clock, Desk, Payer, keep, purse_of, scribe


class Counter:
    """A node's purse and the keepers it goes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scribe, self.node, self.clock = scribe(), Identity.ephemeral(), Clock()
        self.desk = Desk(self.scribe.signed)
        self.purse = purse_of(folder, self.clock)
        self.payer = Payer(self.scribe, self.node)
        self.handing = self.hand_in(self.purse)

    def hand_in(self, purse: Purse) -> HandIn:
        return HandIn(purse, self.desk, self.scribe.signed.grid, self.node, clock=self.clock)

    def bill(self, payer: Payer | None = None, *, escrow: int = 10**9, gift: bool = False, **changes: Any) -> Bill:
        who = payer or self.payer
        tab = TabKey(SESSION, who.account, hex_of(self.node), ENTRY.root, 0, ENTRY.blocks)._replace(**changes)
        economy = self.scribe.signed.charter.economy
        parameters = self.scribe.rules.parameters(ENTRY.root, 0, ENTRY.blocks)
        bill = Bill(tab, economy.prices, parameters, economy.window_tokens)
        if escrow:
            held = self.scribe.escrow(who.identity, self.node, escrow, gift=gift, session=tab.session).statement
            bill.raise_escrow(held)  # type: ignore[arg-type]
        return bill

    def served(self, decode: int, payer: Payer | None = None, *, close: bool = True, **changes: Any) -> Bill:
        """A session that was served and paid."""
        who, bill = payer or self.payer, self.bill(payer, **changes)
        self.purse.begin(bill)
        bill.resume(bill.meter.count._replace(decode=decode))
        keep(self.purse, bill, who.voucher(0, decode, session=bill.tab.session), self.scribe)
        if close:
            self.purse.shut(bill, by_client=True)
        return bill

    async def restarted(self) -> Purse:
        """The purse of the node's next start."""
        return await purse_of(self.folder, self.clock).__aenter__()


def price(counter: Counter, decode: int) -> int:
    return counter.scribe.price(0, decode)
