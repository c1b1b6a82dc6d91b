"""What metering computes for each token, by itself: one session's tab on the client, its bill on a node."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gridllm.identity.keys import Identity
from gridllm.ledger.paper import sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, TabKey, Voucher
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.papers import Papers
from gridllm.node.counter.purse import Purse
from gridllm.wire.messages import RowSlice
from gridllm_client.tab import Tab, Tariff
from tests.charters import ENTRY
from tests.ledgers import NOW, SESSION, Scribe, hex_of

TOKENS: Final = 20_000  # decoded in one session, a call for each
STATEMENT_EVERY: Final = 32  # tokens: half a window


class Stopwatch:
    """CPU seconds of this thread, of what runs under ``running``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds += time.thread_time() - started


def direct_cost() -> dict[str, float]:
    """CPU microseconds a token, for one hop and on one node, vouchers included; and of a voucher by itself."""
    scribe = Scribe()
    economy, rules = scribe.signed.charter.economy, scribe.rules
    payer, payee = Identity.ephemeral(), Identity.ephemeral()
    key = TabKey(SESSION, hex_of(payer), hex_of(payee), ENTRY.root, 0, ENTRY.blocks)
    parameters = rules.parameters(ENTRY.root, 0, ENTRY.blocks)
    escrow = scribe.escrow(payer, payee, 10**12)
    said = escrow.statement
    if not isinstance(said, Escrow):
        raise TypeError("The scribe wrote no escrow.")
    tab = Tab(key, Tariff.of(economy, parameters))
    tab.reserved(said, escrow.raw)
    bill = Bill(key, economy.prices, parameters, economy.window_tokens)
    bill.raise_escrow(said)
    papers = Papers(scribe.signed, rules)
    client, node, signing, reading = Stopwatch(), Stopwatch(), Stopwatch(), Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        purse = Purse(Path(folder) / "purse.db", clock=lambda: NOW)
        for call in range(TOKENS):
            count = _client_call(tab, call, client)
            _node_step(bill, call, node)
            if count is not None:
                with signing.running():
                    raw = _voucher(scribe, key, count, tab.tariff.cost(count), payer)
                    tab.sent(raw, count)
                with reading.running():
                    voucher = papers.read(raw, Voucher)
                    bill.pay(voucher)
                    purse.keep(bill, raw, voucher)
    if bill.claimed < tab.tariff.cost(Count(decode=TOKENS - STATEMENT_EVERY)):
        raise RuntimeError("The tab did not pay for what the bill counted.")
    vouchers = TOKENS / STATEMENT_EVERY
    return {
        "client_us_per_token_and_hop": 1e6 * (client.seconds + signing.seconds) / TOKENS,
        "node_us_per_token": 1e6 * (node.seconds + reading.seconds) / TOKENS,
        "sign_voucher_us": 1e6 * signing.seconds / vouchers,
        "take_voucher_us": 1e6 * reading.seconds / vouchers,
    }


def _client_call(tab: Tab, call: int, watch: Stopwatch) -> Count | None:
    """As ``Payer.charge`` and ``came_back`` do; what to sign."""
    slices = (RowSlice(0, 0, call, 1, 1),)
    with watch.running():
        tab.add(slices, call)
        bare = 0 < tab.covered < tab.owed
        count = tab.ahead()
        if tab.served():
            count = count or tab.rest()
    if bare:
        raise RuntimeError("The escrow is too small for this measurement.")
    return count


def _node_step(bill: Bill, call: int, watch: Stopwatch) -> None:
    """As ``Pauses.holds`` and ``Passage.take`` do."""
    slices = [RowSlice(0, 0, call, 1, 1)]
    with watch.running():
        allowed = bill.allows(slices, call, now_s=NOW)
        bill.take(slices, call)
    if not allowed:
        raise RuntimeError("The bill holds a step of a session that is paid for.")


def _voucher(scribe: Scribe, key: TabKey, count: Count, micro: int, payer: Identity) -> bytes:
    return sign(
        Voucher(
            grid=scribe.signed.grid,
            session=key.session,
            payer=key.payer,
            payee=key.payee,
            model=key.model,
            start=key.start,
            end=key.end,
            issued=NOW,
            prefill=count.prefill,
            decode=count.decode,
            micro=micro,
        ),
        payer,
    )
