"""On which terms a node serves whom, and the sentences for those it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.charter.economy import Economy, Tier
from gridllm.errors import BadPayment, Full, NotEntitled, SessionExists
from gridllm.identity.keys import Identity
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Escrow, Pass
from gridllm.node.counter.purse import Purse
from gridllm.node.counter.rates import PEER_BURST
from gridllm.node.counter.terms import Facts, Ruling, Shown, admit, asks_keeper
from gridllm.wire.messages import Pay, Payment, RowSlice
from tests.charters import ENTRY
from tests.ledgers import NOW, SESSION, hex_of
from tests.unit.node_paying import Clock, Desk, Payer, purse_of, scribe, till_of

OWN_TIER = (Tier(model=ENTRY.root, contribution=5_000_000),)


def economy(**changes: Any) -> Economy:
    return Economy(**{"required": True, "newcomers": "nothing", "classes": (10**6, 10**7)} | changes)


def shown(escrow: int = 0, *, gift: bool = False, ends: int = NOW + 1800, **changes: Any) -> Shown:
    fields = {"contribution": 0, "available": 0, "issued": NOW, "expires": NOW + 600} | changes
    access = Pass(grid="a" * 64, account="b" * 64, keeper="c" * 64, **fields)
    if not escrow:
        return Shown(access, None)
    tab = {"session": SESSION, "payer": "b" * 64, "payee": "d" * 64, "model": ENTRY.root, "start": 0, "end": 8}
    held = {"micro": escrow, "gift": gift, "expires": ends, "keeper": "c" * 64, "issued": NOW}
    return Shown(access, Escrow(grid="a" * 64, **tab | held))


def facts(now_s: float = NOW, **changes: Any) -> Facts:
    return Facts(now_s, **changes)


def test_whoever_pays_is_served_by_contribution() -> None:
    assert admit(economy(), ENTRY, shown(5), facts()) == Ruling("escrow", 1)
    assert admit(economy(), ENTRY, shown(5, contribution=-(10**6)), facts()) == Ruling("escrow", 1)
    assert admit(economy(), ENTRY, shown(5, contribution=10**6), facts()) == Ruling("escrow", 2)
    assert admit(economy(), ENTRY, shown(5, contribution=10**7), facts()) == Ruling("escrow", 3)
    assert admit(economy(), ENTRY, shown(5, gift=True, contribution=10**7), facts()) == Ruling("escrow", 0)


def test_newcomers_go_last_where_the_charter_lets_them_in() -> None:
    lowest = economy(newcomers="lowest")
    assert admit(lowest, ENTRY, None, facts()) == Ruling("unmetered", 0)
    assert admit(lowest, ENTRY, shown(contribution=10**7), facts()) == Ruling("unmetered", 0)
    assert admit(lowest, ENTRY, shown(5), facts()) == Ruling("escrow", 1)
    silent = facts(silent=True)
    assert admit(lowest, ENTRY, shown(contribution=10**7), silent) == Ruling("unmetered", 0), "it did not offer to pay"
    for newcomers in ("nothing", "allowance"):
        with pytest.raises(NotEntitled, match="serves nobody without an account .* gridllm serve"):
            admit(economy(newcomers=newcomers, allowance=5), ENTRY, None, facts())
        with pytest.raises(NotEntitled, match="ask the account's keeper for an escrow"):
            admit(economy(newcomers=newcomers, allowance=5), ENTRY, shown(), facts())


def test_a_tier_says_what_is_lacking_and_how_to_earn_it() -> None:
    tiered = economy(newcomers="lowest", tiers=OWN_TIER)
    with pytest.raises(NotEntitled) as refusal:
        admit(tiered, ENTRY, shown(5, contribution=1_250_000), facts())
    assert str(refusal.value) == (
        "demo is for accounts that gave 5 credits more than they took; this one's contribution is 1.25, 3.75 are "
        "lacking. Earn them with gridllm serve: about 3,750 tokens through all blocks of demo pay as much."
    )
    with pytest.raises(NotEntitled, match="contribution is 0, 5 are lacking"):
        admit(tiered, ENTRY, None, facts())
    assert admit(tiered, ENTRY, shown(5, contribution=5_000_000), facts()) == Ruling("escrow", 2)
    assert admit(tiered, ENTRY, shown(contribution=5_000_000), facts()) == Ruling("unmetered", 0)
    with pytest.raises(NotEntitled, match="access pass has expired"):
        admit(tiered, ENTRY, shown(contribution=5_000_000), facts(NOW + 901))


def test_passes_and_escrows_have_their_time() -> None:
    assert admit(economy(), ENTRY, shown(5), facts(NOW + 900)).mode == "escrow", "clocks may differ by five minutes"
    with pytest.raises(BadPayment, match="pass has expired"):
        admit(economy(), ENTRY, shown(5), facts(NOW + 901))
    assert admit(economy(), ENTRY, shown(5), facts(NOW - 300)).mode == "escrow"
    with pytest.raises(BadPayment, match="in the future"):
        admit(economy(), ENTRY, shown(5), facts(NOW - 301))
    with pytest.raises(BadPayment, match="escrow for this session has expired"):
        admit(economy(), ENTRY, shown(5, ends=NOW + 10), facts(NOW + 10))


def test_trust_is_for_those_in_good_standing_while_their_keeper_is_silent() -> None:
    trusting = economy(trust=1000)
    silent = {"silent": True}
    assert admit(trusting, ENTRY, shown(contribution=10**6), facts(**silent)) == Ruling("trust", 2)
    old = facts(NOW + 86400, silent=True)
    assert admit(trusting, ENTRY, shown(available=9), old).mode == "trust", "an old pass will do"
    assert admit(trusting, ENTRY, shown(contribution=-5, available=1), facts(**silent)).mode == "trust"
    assert admit(trusting, ENTRY, shown(5), facts(NOW + 1000, silent=True)).mode == "escrow"
    for charter, seen, known, says in (
        (trusting, shown(), facts(), "ask the account's keeper for an escrow"),
        (economy(), shown(), facts(**silent), "serves nobody on trust"),
        (trusting, shown(available=9), facts(NOW + 86701, silent=True), "too old for trust"),
        (trusting, shown(contribution=-5), facts(**silent), "had nothing left"),
        (trusting, shown(), facts(**silent), "had nothing left"),  # names cost nothing
        (trusting, shown(available=5), facts(silent=True, debt=5), "0.000005 credits on trust already, of 0.000005"),
        (trusting, shown(available=10**4), facts(silent=True, debt=1000), "0.001 credits on trust already, of 0.001"),
        (trusting, shown(available=10**4), facts(silent=True, debtors=32), "serves 32 other accounts on trust already"),
    ):
        with pytest.raises(NotEntitled, match=says):
            admit(charter, ENTRY, seen, known)


def test_where_all_are_let_in_whoever_is_not_trusted_goes_last() -> None:
    """A client that pays is trusted as elsewhere while its keeper is silent; where others are refused, it goes last."""
    lowest = economy(newcomers="lowest", trust=1000)
    payer = shown(available=9, contribution=10**6)._replace(pays=True)
    assert asks_keeper(lowest, payer, NOW)
    assert admit(lowest, ENTRY, payer, facts(silent=True)) == Ruling("trust", 2)
    assert admit(lowest, ENTRY, payer, facts(NOW + 86400, silent=True)).mode == "trust", "an old pass will do"
    for charter, seen, known in (
        (lowest, payer, facts()),
        (economy(newcomers="lowest"), payer, facts(silent=True)),
        (lowest, payer, facts(NOW + 86701, silent=True)),
        (lowest, shown(contribution=-5)._replace(pays=True), facts(silent=True)),
        (lowest, payer, facts(silent=True, debt=1000)),
        (lowest, payer, facts(silent=True, debtors=32)),
        (lowest, payer, facts(silent=True, left_unpaid=161, window=10)),
    ):
        assert admit(charter, ENTRY, seen, known) == Ruling("unmetered", 0)


def test_who_walks_off_again_and_again_is_not_served() -> None:
    assert admit(economy(), ENTRY, shown(5), facts(left_unpaid=160, window=10)).mode == "escrow"
    with pytest.raises(NotEntitled, match=r"left 0.000161 credits unpaid"):
        admit(economy(), ENTRY, shown(5), facts(left_unpaid=161, window=10))


def test_the_keeper_is_asked_only_where_it_matters() -> None:
    assert not asks_keeper(economy(), None, NOW)
    assert not asks_keeper(economy(), shown(5), NOW)
    assert not asks_keeper(economy(newcomers="lowest"), shown(), NOW)
    assert asks_keeper(economy(), shown(), NOW)
    assert asks_keeper(economy(), shown(5), NOW + 1000)


class Shop:
    """A till and what stands behind it."""

    def __init__(self, purse: Purse, clock: Clock, **rules: Any) -> None:
        self.scribe, self.node, self.clock, self.purse = scribe(**rules), Identity.ephemeral(), clock, purse
        self.desk = Desk(self.scribe.signed)
        self.till = till_of(self.scribe, self.node, self.desk, purse, clock)
        self.payer = Payer(self.scribe, self.node)

    async def admit(self, opened: Any) -> Any:
        return await self.till.admit(opened, self.payer.connection.peer)


@pytest.fixture
async def purse(tmp_path: Path) -> AsyncIterator[Purse]:
    async with purse_of(tmp_path, Clock()) as purse:
        yield purse


@pytest.fixture
def shop(purse: Purse) -> Iterator[Shop]:
    yield Shop(purse, Clock(), trust=10**6, classes=(10**6,))


async def test_what_is_shown_is_verified(shop: Shop) -> None:
    payer, other = shop.payer, Payer(shop.scribe, shop.node)
    terms = await shop.admit(payer.open(payer.payment(10**6, 10**6)))
    assert (terms.priority, terms.bill.escrow, terms.bill.tab.payer) == (2, 10**6, payer.account)
    sound = payer.payment(10**6)

    def altered(**changes: Any) -> Any:
        return payer.open(msgspec.structs.replace(sound, **changes))

    elsewhere = scribe(window_tokens=11)
    for wrong, says in (
        (altered(delegation=payer.delegation(client=other.connection.peer)), "cannot use it"),
        (altered(delegation=payer.delegation(expires=NOW - 301)), "expired"),
        (altered(delegation=other.delegation(client=payer.connection.peer)), "another account than the delegation"),
        (altered(delegation=b""), "DSSE"),
        (altered(delegation=other.delegation(account=payer.account)), "forged"),
        (altered(access=payer.access(keeper=hex_of(Identity.ephemeral()))), "forged"),
        (altered(access=other.access()), "another account"),
        (altered(access=sound.delegation), "is of type"),
        (altered(escrow=other.escrow(10**6)), "another session"),
        (altered(escrow=payer.escrow(10**6, session="1e" * 16)), "another session"),
        (altered(escrow=payer.escrow(10**6, end=4)), "another session"),
        (altered(escrow=payer.escrow(10**6, expires=NOW)), "expired"),
        (altered(escrow=elsewhere.escrow(payer.identity, shop.node, 10**6).raw), "another grid"),
        (altered(escrow=payer.voucher(1, 1)), "shown as Escrow is a statement of another kind, Voucher"),
        (altered(escrow=b"{}"), "DSSE"),
    ):
        with pytest.raises(BadPayment, match=says):
            await shop.admit(wrong)


async def test_the_owner_of_the_node_uses_it_for_nothing(shop: Shop) -> None:
    owner = Payer(shop.scribe, shop.node, shop.payer.connection)
    owner.identity = shop.node
    terms = await shop.admit(owner.open(owner.payment()))
    assert terms.bill is None and terms.priority == 1


async def test_payment_is_taken_part_by_part(shop: Shop) -> None:
    payer, price = shop.payer, shop.scribe.price
    terms = await shop.admit(payer.open(payer.payment(10**6)))
    bill = terms.bill
    shop.till.begin(bill)
    shop.till.pay(terms, bill, Pay(bytes(16), payer.voucher(5, 5)))
    shop.till.pay(terms, bill, Pay(bytes(16), payer.voucher(5, 5)))
    shop.till.pay(terms, bill, Pay(bytes(16), payer.voucher(5, 4)))
    assert bill.claimed == price(5, 5) == shop.purse.earnings.waiting
    with pytest.raises(BadPayment, match="its tokens cost"):
        shop.till.pay(terms, bill, Pay(bytes(16), payer.voucher(6, 5, micro=price(6, 5) + 1)))
    unsigned = shop.scribe.voucher(payer.identity, shop.node, 7, 5).statement
    with pytest.raises(BadPayment, match="forged"):
        shop.till.pay(terms, bill, Pay(bytes(16), sign(unsigned, Identity.ephemeral())))
    with pytest.raises(BadPayment, match="of another kind, Escrow"):
        shop.till.pay(terms, bill, Pay(bytes(16), payer.escrow(5)))
    shop.till.pay(terms, bill, Pay(bytes(16), b"", payer.escrow(2 * 10**6), payer.access(10**6)))
    assert (bill.escrow, terms.priority) == (2 * 10**6, 2)
    strange = Payer(shop.scribe, shop.node).access()
    with pytest.raises(BadPayment, match="another account"):
        shop.till.pay(terms, bill, Pay(bytes(16), payer.voucher(5, 6), access=strange))
    with pytest.raises(BadPayment, match="expired"):
        shop.till.pay(terms, bill, Pay(bytes(16), access=payer.access(issued=NOW - 2000, expires=NOW - 301)))
    assert (bill.claimed, terms.priority) == (price(5, 6), 2), "what is good of it counts"


async def test_sessions_on_trust_share_what_the_account_is_trusted_with(shop: Shop) -> None:
    payer, price = shop.payer, shop.scribe.price
    shop.desk.silent = True
    first = (await shop.admit(payer.open(payer.payment()))).bill
    shop.till.begin(first)
    second = (await shop.admit(payer.open(payer.payment(), session=bytes(16)))).bill
    shop.till.begin(second)
    most = 10**6 // price(0, 1)
    first.claimed = second.claimed = 10**9
    for one, tokens in ((first, most // 2), (second, most)):
        for call in range(1, tokens + 1):
            slices = [RowSlice(0, 0, 0, 1, 1)]
            if not one.allows(slices, call, now_s=NOW):
                break
            one.take(slices, call)
    assert first.meter.count.decode == most // 2
    assert first.cost + second.cost <= 10**6 < first.cost + second.cost + price(0, 2)
    shop.till.shut(first, by_client=True)
    shop.till.shut(second, by_client=True)


async def test_what_an_account_owes_for_one_model_counts_for_the_other(shop: Shop) -> None:
    payer, price = shop.payer, shop.scribe.price
    shop.desk.silent = True
    beside = shop.till.beside(ENTRY.model_copy(update={"name": "heir"}))
    first = (await shop.admit(payer.open(payer.payment()))).bill
    shop.till.begin(first)
    second = (await beside.admit(payer.open(payer.payment(), session=bytes(16)), payer.connection.peer)).bill
    second.claimed = 10**9
    slices, most = [RowSlice(0, 0, 0, 1, 1)], 10**6 // price(0, 1)
    for call in range(1, most + 1):
        first.take(slices, call)
    assert not second.allows(slices, 1, now_s=NOW), "nothing is left of the trust"
    shop.till.shut(first, by_client=True)
    assert beside._debtors("") == shop.till._debtors("") == 1


async def test_debts_outlast_sessions_until_a_keeper_takes_the_voucher(shop: Shop) -> None:
    payer, price = shop.payer, shop.scribe.price
    shop.desk.silent = True
    terms = await shop.admit(payer.open(payer.payment()))
    shop.till.begin(terms.bill)
    tokens = 10**6 // price(0, 1) + 1
    shop.till.pay(terms, terms.bill, Pay(bytes(16), payer.voucher(0, tokens)))
    shop.till.shut(terms.bill, by_client=True)
    again = payer.open(payer.payment(), session=bytes(16))
    with pytest.raises(NotEntitled, match="on trust already"):
        await shop.admit(again)
    (slip,) = shop.purse.slips()
    shop.purse.settle(slip, slip.micro)
    assert (await shop.admit(again)).bill.on_trust


async def test_a_bill_goes_on_where_it_stood_and_ends_for_good_once_released(shop: Shop) -> None:
    payer = shop.payer
    opened = payer.open(payer.payment(10**6))
    terms = await shop.admit(opened)
    shop.till.begin(terms.bill)
    shop.till.pay(terms, terms.bill, Pay(bytes(16), payer.voucher(8, 3)))
    shop.till.shut(terms.bill, by_client=False)
    again = (await shop.admit(opened)).bill
    shop.till.begin(again)
    assert tuple(again.meter.count) == (8, 3), "or the client would be served once more for the same vouchers"
    assert again.claimed == again.cost == shop.scribe.price(8, 3)
    shop.till.shut(again, by_client=True)
    (slip,) = shop.purse.slips()
    slip.released = True
    with pytest.raises(SessionExists, match="settled for good"):
        await shop.admit(opened)


async def test_a_stranger_cannot_make_it_verify_without_end(shop: Shop) -> None:
    payer = shop.payer
    sound = payer.open(payer.payment())
    shop.desk.silent = True
    await shop.admit(sound)
    with pytest.raises(Full, match="Too many payments"):
        for _ in range(int(PEER_BURST) + 50):
            with pytest.raises(BadPayment):
                await shop.admit(payer.open(Payment(b"no delegation", b"no pass")))
    await shop.admit(sound)  # what was verified before costs nothing
