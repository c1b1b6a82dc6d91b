"""Whoever lies to keepers: statements replayed, inflated, forged, signed by too few; floods; nodes that withhold."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator

import pytest

from gridllm.errors import BadPayment, CallTimeout, GridError, Insufficient, Malformed, TooSoon
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature
from gridllm.ledger import messages
from gridllm.ledger.messages import Submit
from gridllm.ledger.paper import sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Escrow, Release, Transfer
from gridllm_bootstrap.keeping import patience
from tests.swarm.ledger_cheats import Crook, TradeGrid, crook, until

pytestmark = pytest.mark.timeout(300)

CREDIT = 10**9


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TradeGrid]:
    made = TradeGrid(tmp_path_factory.mktemp("books"))
    try:
        yield made
    finally:
        made.close()


async def test_a_voucher_is_paid_once_wherever_and_however_often_it_is_handed_in(grid: TradeGrid) -> None:
    node, session = Identity.ephemeral().public_key.hex(), secrets.token_hex(16)
    async with crook(grid, credit=CREDIT) as payer, crook(grid) as thief:
        old, new = (payer.voucher(node, session, Count(decode=tokens)) for tokens in (7, 9))
        assert await payer.submit(payer.key, old, old, new, new, old) == [
            "accepted",
            "known",
            "accepted",
            *["known"] * 2,
        ]
        assert await thief.submit(payer.key, *[new] * 50) == ["known"] * 50, "brought by a stranger"
        other = grid.maintainers[1 - grid.home_number(payer.key)].public_key.hex()
        assert {one.code for one in await thief.keepers.submit(other, [new] * 5)} == {"not_home"}
        again = payer.voucher(node, session, Count(decode=9), grid="ab" * 32)
        assert await payer.submit(payer.key, again) == ["bad_payment"]
        both = add_signature(new, thief.key)  # another envelope of the same words
        assert await payer.submit(payer.key, both) == ["known"]
        assert (await payer.keepers.account(payer.account)).spent == grid.cost(Count(decode=9))
        assert await payer.paid_to(node) == grid.cost(Count(decode=9))


async def test_nobody_makes_credit_or_spends_another_s(grid: TradeGrid) -> None:
    session = secrets.token_hex(16)
    async with crook(grid, credit=CREDIT) as victim, crook(grid) as thief:
        me, more = thief.account, Count(decode=1000)
        tab = {"session": session, "payer": victim.account, "payee": me, "model": grid.entry.root, "start": 0, "end": 8}
        tab |= {"grid": grid.signed.grid, "issued": int(time.time())}
        home, wrong = (grid.maintainers[n] for n in (grid.home_number(victim.key), 1 - grid.home_number(victim.key)))
        terms = {"micro": CREDIT, "gift": False, "expires": int(time.time()) + 1800}
        said = Transfer(
            grid=grid.signed.grid,
            payer=victim.account,
            payee=me,
            micro=CREDIT,
            memo="",
            serial=secrets.token_hex(16),
            issued=1,
        )
        grant = grid.grant(thief.key, CREDIT)
        lone = sign(grid.rules.read(grant).statement, grid.maintainers[0])  # type: ignore[arg-type]
        forged = {
            "a voucher that the thief signed": victim.voucher(me, session, more, signer=thief.key),
            "an altered amount": victim.voucher(me, session, more, micro=grid.cost(more) + 1),
            "tokens for nothing": victim.voucher(me, session, more, micro=0),
            "a span that is not": victim.voucher(me, session, more, end=9),
            "a model that is not": victim.voucher(me, session, more, model="ab" * 32),
            "a voucher with one byte changed": victim.voucher(me, session, more).replace(b'"sig":"', b'"sig":"A', 1),
            "the thief's escrow": sign(Escrow(**tab, **terms, keeper=home.public_key.hex()), thief.key),
            "the thief as keeper": sign(Escrow(**tab, **terms, keeper=me), thief.key),
            "another keeper's escrow": sign(Escrow(**tab, **terms, keeper=wrong.public_key.hex()), wrong),
            "its keeper's own, handed in": sign(Escrow(**tab, **terms, keeper=home.public_key.hex()), home),
            "a release by the payer": sign(Release(**tab), victim.key),
            "a transfer that the payee signed": sign(said, thief.key),
            "a transfer that a keeper signed": sign(said, home),
            "a grant by one of two": lone,
            "a grant by one, twice": lone.replace(b'"signatures":[', b'"signatures":[' + _signature(lone) + b","),
            "a grant by the thief": sign(grid.rules.read(grant).statement, thief.key, victim.key),  # type: ignore[arg-type]
            "nonsense": b"\xff\x00" * 300,
        }
        for number in (0, 1):
            keeper = grid.maintainers[number].public_key.hex()
            for outcome, what in zip(await thief.keepers.submit(keeper, list(forged.values())), forged, strict=True):
                elsewhere = number != grid.home_number(victim.key)
                known = "bad_payment" if what != "a model that is not" else "later"  # it might be listed any moment
                assert outcome.code == known or (elsewhere and outcome.code == "not_home"), (what, outcome)
        with pytest.raises(BadPayment):  # with a delegation that was overheard
            await thief.keepers.escrows(
                victim.account, victim.delegation(victim.key), [victim.wish(me, session, CREDIT)]
            )
        with pytest.raises(Insufficient, match="gridllm serve"):
            await thief.escrow(victim.account, session, 1)
        assert await thief.submit(thief.key, thief.transfer(victim.account, 1)) == ["insufficient"]
        assert await thief.submit(thief.key, grant, grant) == ["accepted", "known"], "and a true one counts once"
        assert await thief.balance() == CREDIT == await victim.balance()


def _signature(envelope: bytes) -> bytes:
    """The only one."""
    return envelope.split(b'"signatures":[', 1)[1].rsplit(b"]", 1)[0]


async def test_a_node_that_hands_in_late_or_after_its_release_gets_what_is_left_at_most(grid: TradeGrid) -> None:
    """It cannot lose others' credit, nor get more than was signed; what it kept back may be gone."""
    session, due = secrets.token_hex(16), grid.cost(Count(decode=50))
    async with crook(grid, credit=2 * due) as payer, crook(grid) as node:
        await payer.escrow(node.account, session, due)
        first, last = (payer.voucher(node.account, session, Count(decode=tokens)) for tokens in (10, 50))
        tab = grid.rules.read(first).statement.tab._asdict()  # type: ignore[union-attr]
        done = sign(Release(grid=grid.signed.grid, issued=int(time.time()), **tab), node.key)
        assert await node.submit(payer.key, first, done) == ["accepted", "accepted"]
        rest = await payer.balance() - due // 5
        assert await payer.submit(payer.key, payer.transfer(node.identity.public_key.hex(), rest)) == ["accepted"]
        assert await node.submit(payer.key, last) == ["later"], "what it kept back is gone"
        assert await node.submit(payer.key, last, first, done) == ["later", "known", "known"]
        assert await payer.balance() == due // 5, "nobody else's credit pays it, and no balance falls below zero"
        await payer.granted(due)
        assert await node.submit(payer.key, last, last) == ["accepted", "known"]
        assert await payer.paid_to(node.account) == due


async def flood(one: Crook, until_s: float) -> int:
    """All that a keeper may be asked, as fast as it answers; how often it was told to wait."""
    keeper = one.keepers.all[0]
    sound = [one.voucher("ab" * 32, secrets.token_hex(16), Count(decode=5)) for _ in range(20)]
    unsigned = [raw.replace(b'"sig":"', b'"sig":"AAAA', 1) for raw in sound]
    told = 0

    async def bother(call: str, payload: bytes) -> None:
        nonlocal told
        swarm, peer = one.keepers.swarm, one.keepers._lines[keeper].card.peer  # type: ignore[union-attr]
        while (now := time.monotonic()) < until_s or (not told and now < until_s + 30):  # a slow machine asks less
            try:
                await swarm.call(peer, call, payload, timeout_s=10)
            except TooSoon:
                told += 1
            except GridError:
                pass
            await asyncio.sleep(0)

    await one.keepers.heads(keeper)
    full = messages.pack(Submit((sound + unsigned) * 16))
    calls = [(messages.SUBMIT_CALL, full)] * 4 + [(messages.SUBMIT_CALL, secrets.token_bytes(10**6))] * 2
    calls += [(messages.ESCROW_CALL, secrets.token_bytes(1000)), (messages.ENTRIES_CALL, secrets.token_bytes(1000))]
    await asyncio.gather(*(bother(*call) for call in calls))
    return told


async def test_others_are_served_while_strangers_flood_the_keeper(grid: TradeGrid) -> None:
    """Each peer, and each address, has its share of a keeper's time (``keeping.patience``); here all have one address,
    so that the honest one waits for its turn as they do, and is served in the end."""
    payer = grid.account_at(next(n for n, m in enumerate(grid.maintainers) if m.public_key.hex() == _first(grid)))
    async with crook(grid, payer, credit=CREDIT) as honest, crook(grid) as one, crook(grid) as two:
        node, session = Identity.ephemeral().public_key.hex(), secrets.token_hex(16)
        floods = [asyncio.create_task(flood(each, time.monotonic() + 4)) for each in (one, two)]
        for tokens in range(1, 11):
            voucher = honest.voucher(node, session, Count(decode=tokens))
            await until(lambda voucher=voucher: honest.submit(payer, voucher))
        told = await asyncio.gather(*floods)
        assert all(count > 0 for count in told), "they were told to wait"
        spent = (await until(lambda: honest.keepers.account(honest.account))).spent
        assert spent == grid.cost(Count(decode=10))
        with pytest.raises(Malformed):
            await until_said(one, b"garbage")
    assert patience.MOST_OF_ONE <= 8192 // 4
    assert all(running.process.poll() is None for running in grid.running.values())


async def until_said(one: Crook, payload: bytes) -> None:
    """Once the keeper has patience again."""
    swarm, peer = one.keepers.swarm, one.keepers._lines[one.keepers.all[0]].card.peer  # type: ignore[union-attr]
    async with asyncio.timeout(60):
        while True:
            try:
                await swarm.call(peer, messages.SUBMIT_CALL, payload, timeout_s=10)
            except (TooSoon, CallTimeout):  # the flood may not be worked off yet
                await asyncio.sleep(0.5)


def _first(grid: TradeGrid) -> str:
    return grid.signed.charter.keepers[0]


def test_what_came_of_it_is_sound(grid: TradeGrid) -> None:
    code, told = grid.verify()
    assert code == 0, told
    assert told["sound"] is True
