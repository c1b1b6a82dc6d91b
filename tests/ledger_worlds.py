"""Small worlds of ledger statements for hypothesis: few accounts and tabs, so that statements meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Ledger
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow, Grant, Release, TabKey, Transfer, Voucher
from tests.certificates import certificate
from tests.charters import ENTRY
from tests.ledgers import NOW, STARTER, Scribe, entry, hex_of

SCRIBE = Scribe()
PEOPLE = [Identity.ephemeral() for _ in range(4)]
NAMES = [hex_of(one) for one in PEOPLE]
KEEPER = SCRIBE.signed.charter.keepers[0]

TABS = [
    TabKey(session * 16, payer, payee, ENTRY.root, start, start + 4)
    for session in ("01", "02")
    for payer, payee in ((NAMES[0], NAMES[1]), (NAMES[1], NAMES[2]), (NAMES[2], NAMES[0]))
    for start in (0, 4)
]
amounts = st.integers(0, 40).map(lambda decode: SCRIBE.price(0, decode, 0, 4))  # near to what vouchers claim
times = st.integers(NOW - 3, NOW + 3)
tabs = st.sampled_from(TABS)


def _on(tab: TabKey) -> dict[str, Any]:
    return {"grid": SCRIBE.signed.grid, "issued": NOW} | tab._asdict()


def _voucher(tab: TabKey, prefill: int, decode: int) -> Voucher:
    micro = SCRIBE.price(prefill, decode, tab.start, tab.end)
    return Voucher(**_on(tab), prefill=prefill, decode=decode, micro=micro)


def _escrow(tab: TabKey, micro: int, gift: bool, expires: int, days: int) -> Escrow:
    when = {"issued": NOW + 86400 * days}
    return Escrow(**_on(tab) | when, micro=micro, gift=gift, expires=expires, keeper=KEEPER)


def _grant(account: str, micro: int, serial: int) -> Grant:
    fields = {"grid": SCRIBE.signed.grid, "reason": "work", "issued": NOW, "serial": f"{serial:032x}"}
    return Grant(account=account, micro=micro, **fields)


def _transfer(tab: TabKey, micro: int, serial: int) -> Transfer:
    fields = {"grid": SCRIBE.signed.grid, "memo": "", "issued": NOW, "serial": f"{serial:032x}"}
    return Transfer(payer=tab.payer, payee=tab.payee, micro=micro, **fields)


statements = st.one_of(
    st.builds(_voucher, tabs, st.sampled_from([0, 4, 8]), st.integers(0, 9)),  # four of prefill cost one of decode
    st.builds(_escrow, tabs, amounts, st.booleans(), times, st.integers(0, 1)),
    st.builds(lambda tab: Release(**_on(tab)), tabs),
    st.builds(_grant, st.sampled_from(NAMES), st.integers(1, 10**9), st.integers(0, 2)),
    st.builds(_transfer, tabs, st.integers(1, 10**6), st.integers(0, 2)),
    st.builds(lambda one, at: certificate(SCRIBE.signed, one.peer, issued=at), st.sampled_from(PEOPLE), times),
)
entries: st.SearchStrategy[Entry] = statements.map(lambda said: entry(said.model_dump_json().encode(), said))


def minted(books: Ledger, coming: list[Entry]) -> int:
    """Credit that these statements make: each grant once, and a starter for each enrolled account."""
    grants = {one.id: one.statement.micro for one in coming if isinstance(one.statement, Grant)}
    enrolled = [subject for kind, subject in books.seen if kind == "enrolment"]
    return sum(grants.values()) + STARTER * len(enrolled)
