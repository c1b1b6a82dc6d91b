"""Clients that cheat at real nodes: forged papers, vouchers shown twice, one credit in many sessions, walking away.

docs/ledger.md, "Attacks", says of each what it costs whom; here it is measured.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator

import pytest

from gridllm.identity.keys import Identity
from gridllm.ledger.paper import sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Delegation, Escrow, Pass
from gridllm.node.counter.terms import WALK_WINDOWS
from gridllm.wire.messages import Output, Owing, Ready, Refused, Resume
from tests.swarm.double_spend import TRUST, check_bounds, check_trust, refused, spend_at_once, spend_on_trust, tokens
from tests.swarm.ledger_cheats import Crook, TradeGrid, crook, until

pytestmark = pytest.mark.timeout(300)

WINDOW_TOKENS = 16
NODES = 5
FLAGS = ("--window", str(WINDOW_TOKENS), "--trust", str(TRUST / 1e6))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TradeGrid]:
    made = TradeGrid(tmp_path_factory.mktemp("attacks"), *FLAGS)
    try:
        made.serve(NODES)
        yield made
    finally:
        made.close()


async def test_forged_papers_open_nothing(grid: TradeGrid) -> None:
    """A pass, an escrow, a delegation that somebody made himself, or found."""
    node, other = grid.nodes[:2]
    async with crook(grid) as one, crook(grid, credit=tokens(grid, 1000)) as victim:
        wire = await one.wire(node)
        account, now, signed = one.account, int(time.time()), grid.signed
        standing = {"contribution": 10**12, "available": 10**12, "issued": now, "expires": now + 600}
        home = one.keepers.home(account)
        for named, signer in ((home, one.key), (account, one.key), (home, victim.key)):
            access = sign(Pass(grid=signed.grid, account=account, keeper=named, **standing), signer)
            assert (await refused(wire, access=access)).startswith("bad_payment")
        wrong_home = next(m for m in grid.maintainers if m.public_key.hex() != home)
        access = sign(
            Pass(grid=signed.grid, account=account, keeper=wrong_home.public_key.hex(), **standing), wrong_home
        )
        assert "home keeper" in await refused(wire, access=access)

        wish = one.wish(node.account, wire.session, 10**9)
        fields = {"grid": signed.grid, "payer": account, "issued": now, "gift": False, "expires": now + 1800}
        fields |= {name: getattr(wish, name) for name in ("session", "payee", "model", "start", "end", "micro")}
        for keeper, signer in ((home, one.key), (account, one.key), (wrong_home.public_key.hex(), wrong_home)):
            escrow = sign(Escrow(**fields, keeper=keeper), signer)
            assert (await refused(wire, escrow, session=wire.session)).startswith("bad_payment")

        theirs = await victim.escrow(node.account, wire.session, tokens(grid, 100))  # what went over the victim's wire
        access = await victim.keepers.access_pass(victim.account, victim.delegation(victim.key))
        stolen = victim.delegation(victim.key)
        said = await refused(wire, theirs, session=wire.session, access=access, delegation=stolen)
        assert "is for the connection" in said
        assert "another account" in await refused(wire, theirs, session=wire.session, access=access)
        mine = {"account": victim.account, "client": one.identity.peer, "issued": now, "expires": now + 60}
        forged = sign(Delegation(grid=signed.grid, **mine), one.key)
        said = await refused(wire, theirs, session=wire.session, access=access, delegation=forged)
        assert said.startswith("bad_payment")

        line = await victim.wire(node)  # its own escrow: of another session, of another node
        for session, payee in ((secrets.token_hex(16), node), (line.session, other)):
            escrow = await victim.escrow(payee.account, session, tokens(grid, 10))
            assert "another session, node or span" in await refused(line, escrow)
        assert (await refused(line)).startswith("not_entitled"), "nothing is set aside, and its keeper answers"
        assert (await refused(line, payment=None)).startswith("not_entitled")
        assert (await victim.keepers.account(victim.account)).spent == 0


async def test_false_vouchers_and_old_ones_move_a_node_no_further(grid: TradeGrid) -> None:
    node, other = grid.nodes[:2]
    async with crook(grid, credit=tokens(grid, 4000)) as one:
        wire = await one.wire(node)
        assert isinstance(await wire.open(await one.escrow(node.account, wire.session, tokens(grid, 500))), Ready)
        assert await wire.steps(1000) == WINDOW_TOKENS
        good = one.voucher(node.account, wire.session, Count(decode=WINDOW_TOKENS))
        wire.pay(good)
        # the step that waited, and those up to the next pause
        assert await wire.steps_held() + await wire.steps(1000) == WINDOW_TOKENS
        more = Count(decode=1000)
        for voucher, says in (
            (one.voucher(node.account, wire.session, more, micro=grid.cost(more) - 1), "its tokens cost"),
            (one.voucher(node.account, wire.session, Count(decode=1), micro=grid.cost(more)), "its tokens cost"),
            (one.voucher(node.account, secrets.token_hex(16), more), "another session"),
            (one.voucher(other.account, wire.session, more), "another session, node"),
            (one.voucher(node.account, wire.session, more, start=0, end=4), "another session, node or span"),
            (one.voucher(node.account, wire.session, more, signer=Identity.ephemeral()), "signed by too few"),
            (one.voucher(node.account, wire.session, more, key=Identity.ephemeral()), "another session"),
            (one.voucher(node.account, wire.session, more, grid="ab" * 32), "another grid"),
            (b"garbage", "BadPayment"),
        ):
            wire.pay(voucher)
            said = await wire.hears(Refused)
            assert said.code == "bad_payment", (said, says)
        for _ in range(5):
            wire.pay(good)  # once more: it is worth what it was
        await asyncio.sleep(1)
        assert wire.served == tokens(grid, 2 * WINDOW_TOKENS), "nothing came of it"
        wire.leave()
        paid = tokens(grid, WINDOW_TOKENS)
        await until(lambda: _spent(one, paid))
        assert wire.served - paid <= grid.window


async def test_decoding_in_the_disguise_of_a_prompt_is_paid_as_decoding(grid: TradeGrid) -> None:
    """All steps under one number, as the pieces of one call: too small for pieces of a prompt."""
    node, count = grid.nodes[0], 40
    async with crook(grid, credit=tokens(grid, 1000)) as one:
        wire = await one.wire(node)
        assert isinstance(await wire.open(await one.escrow(node.account, wire.session, tokens(grid, 500))), Ready)
        wire.pay(one.voucher(node.account, wire.session, Count(decode=count)))
        for _ in range(count):
            wire.step(call=1)
            assert isinstance(await wire.hears(Output, Owing, Refused), Output)
        assert wire.served == tokens(grid, count)
        wire.pay(one.voucher(node.account, wire.session, wire.meter.count))
        wire.leave()
        await until(lambda: _spent(one, wire.served))


async def _spent(one: Crook, micro: int) -> bool:
    """Whether the books say that so much was paid, and no more."""
    spent = (await one.keepers.account(one.account)).spent
    assert spent <= micro
    return spent == micro


async def test_a_stranger_does_nothing_to_another_s_session(grid: TradeGrid) -> None:
    """It knows the session's id, and whatever crossed the wire."""
    node = grid.nodes[0]
    async with crook(grid, credit=tokens(grid, 1000)) as victim, crook(grid) as stranger:
        wire, other = await victim.wire(node), await stranger.wire(node)
        escrow = await victim.escrow(node.account, wire.session, tokens(grid, 500))
        assert isinstance(await wire.open(escrow), Ready)
        assert await wire.steps(10) == 10
        other.session = wire.session
        voucher = victim.voucher(node.account, wire.session, Count(decode=10))
        other.pay(voucher, escrow=escrow)
        other.step()
        assert (await other.hears(Refused)).code in ("unknown_session", "not_upstream")
        said = await other.open(escrow)
        assert isinstance(said, Refused) and said.code == "session_exists"
        other.link.send(Resume(2, other.sid, 1, stranger.identity.peer, None, [0]))
        assert (await other.hears(Refused)).code == "unknown_session"
        other.leave()
        await asyncio.sleep(0.5)
        assert await wire.steps(1000) == WINDOW_TOKENS - 10, "it goes on, and nobody paid for it"
        wire.pay(voucher)
        wire.leave()
        await until(lambda: _spent(victim, tokens(grid, 10)))


async def test_a_client_that_stops_paying_and_one_that_walks_away_again_and_again(grid: TradeGrid) -> None:
    async with crook(grid, credit=tokens(grid, 4000)) as idler, crook(grid, credit=tokens(grid, 4000)) as walker:
        wire = await idler.wire(grid.nodes[0])
        escrow = await idler.escrow(grid.nodes[0].account, wire.session, tokens(grid, 500))
        assert isinstance(await wire.open(escrow), Ready)
        began = time.monotonic()
        assert await wire.steps(1000) == WINDOW_TOKENS
        assert isinstance(wire.stopped, Owing) and "waits for a voucher" in wire.stopped.text

        node, taken, held = grid.nodes[1], 0, 0
        line = await walker.wire(node)
        for _ in range(100):
            line.begin_session()
            each = 2 * grid.window
            said = await line.open(await walker.escrow(node.account, line.session, each))
            if isinstance(said, Refused):
                break
            taken += tokens(grid, await line.steps(1000))
            held += each
            line.leave()
        assert said.code == "not_entitled" and "left" in said.message, said
        assert WALK_WINDOWS * grid.window < taken <= (WALK_WINDOWS + 2) * grid.window, taken
        assert (await walker.keepers.account(walker.account)).escrowed >= held, "it does not have it back at once"
        heir = Identity.ephemeral()
        (sent,) = await walker.submit(walker.key, walker.transfer(heir.public_key.hex(), tokens(grid, 4000) - held))
        assert sent == "insufficient", "the last escrow, which opened nothing, is held as well"

        ended = await wire.hears(Refused)
        assert ended.code == "unpaid" and "no voucher came within 30 s" in ended.message
        assert time.monotonic() - began > 25
        assert wire.served <= grid.window


async def test_next_to_nothing_opens_no_window(grid: TradeGrid) -> None:
    """Or one credit among a million names would be a million windows."""
    node = grid.nodes[0]
    async with crook(grid, credit=1) as one:
        wire = await one.wire(node)
        assert isinstance(await wire.open(await one.escrow(node.account, wire.session, 1)), Ready)
        assert await wire.steps(1) == 0
        assert isinstance(wire.stopped, Owing) and "is used up" in wire.stopped.text


async def test_one_credit_is_set_aside_once_however_many_sessions_open(grid: TradeGrid) -> None:
    check_bounds(grid, await spend_at_once(grid, grid.nodes), NODES)


async def test_while_a_keeper_is_silent_nodes_lose_what_they_trust_at_most(grid: TradeGrid) -> None:
    check_trust(NODES, await spend_on_trust(grid, grid.nodes))


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_fifty_nodes_and_one_credit(grid: TradeGrid) -> None:
    for _ in range(9):
        grid.serve(5)
    assert len(grid.nodes) == 50
    check_bounds(grid, await spend_at_once(grid, grid.nodes), 50)
    check_trust(50, await spend_on_trust(grid, grid.nodes))
