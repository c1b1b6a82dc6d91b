"""Many names of one person: a ring that trades with itself all day, and free accounts under each policy."""

from __future__ import annotations

import random
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridllm.errors import Insufficient
from gridllm.identity.keys import Identity
from gridllm.ledger.messages import AccountView
from gridllm.ledger.prices import Count
from gridllm.wire.messages import Owing, Ready, Refused
from tests.ledgers import Scribe
from tests.swarm.ledger_cheats import Crook, TradeGrid, crook, until

pytestmark = pytest.mark.timeout(300)

MEMBERS = 10
STARTER = 5_000_000  # micro-credits
VOUCHERS = 3000
LAPS = 5  # of one purse that is paid for service and sent back
ALLOWANCE = 100_000  # a day: some 31 tokens of the demo model


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TradeGrid]:
    made = TradeGrid(tmp_path_factory.mktemp("ring"), "--starter", str(STARTER / 1e6))
    try:
        yield made
    finally:
        made.close()


def contribution(view: AccountView) -> int:
    """As the keeper's passes say it."""
    return view.earned - view.spent - view.sent


async def sums(one: Crook, ring: list[Crook], spent: int) -> list[AccountView]:
    """Of all members, once both keepers know of so much spending and say the same."""

    async def agreed() -> list[AccountView]:
        told = []
        for keeper in one.keepers.all:
            views = {view.account: view for view in await one.keepers.accounts(keeper)}
            told.append([views[member.account] for member in ring])
        plain = [[(v.account, v.granted, v.earned, v.spent, v.received, v.sent) for v in views] for views in told]
        done = plain[0] == plain[1] and sum(view.spent for view in told[0]) == spent
        return told[0] if done else []

    found: list[AccountView] = await until(agreed)
    return found


async def enrol(one: Crook, ring: list[Crook]) -> None:
    """Each was admitted as a node, once: the starter is minted, once."""
    manifest = grid_scribe(one.trade)
    for member in ring:
        certificate = manifest.enrolment(member.key).raw
        for keeper in one.keepers.all:
            said = [outcome.code for outcome in await one.keepers.submit(keeper, [certificate, certificate])]
            assert set(said) <= {"accepted", "known"} and said[1] == "known"


def grid_scribe(grid: TradeGrid) -> Scribe:
    """Writes what this grid's maintainers sign."""
    return Scribe(grid.signed, grid.maintainers, grid.entry, grid.rules.blocks[grid.entry.root])


@pytest.mark.soak
async def test_a_ring_of_ten_that_trades_all_day_gains_nothing(grid: TradeGrid) -> None:
    """Vouchers in all directions, in any order; then all that they have goes to one of them; then round and round."""
    rng = random.Random(4)
    async with crook(grid) as one:
        ring = [Crook(grid, one.identity, one.keepers, Identity.ephemeral()) for _ in range(MEMBERS)]
        await enrol(one, ring)
        tokens: Counter[tuple[int, int]] = Counter()
        batches: defaultdict[str, list[bytes]] = defaultdict(list)
        sessions = {(a, b): secrets.token_hex(16) for a in range(MEMBERS) for b in range(MEMBERS) if a != b}
        each = 9 * STARTER // 10 // grid.cost(Count(decode=1)) // (VOUCHERS // MEMBERS)  # nobody runs dry
        for _ in range(VOUCHERS):
            pair = rng.choice(list(sessions))
            tokens[pair] += rng.randint(1, max(1, 2 * each - 1))
            payer, payee = (ring[at] for at in pair)
            raw = payer.voucher(payee.account, sessions[pair], Count(decode=tokens[pair]))
            batches[one.keepers.home(payer.account)].append(raw)
        said: Counter[str] = Counter()
        for keeper, raws in batches.items():
            said.update(outcome.code for outcome in await one.keepers.submit(keeper, raws))
        assert said["accepted"] > VOUCHERS / 2, said
        views = [await one.keepers.account(member.account) for member in ring]
        traded = sum(view.spent for view in views)
        views = await sums(one, ring, traded)
        print(f"{said}: {traded} micro-credits changed hands")  # noqa: T201  # to be seen with -s
        assert sum(view.earned - view.spent for view in views) == 0, "contributions"
        assert sum(contribution(view) for view in views) == 0
        assert sum(view.granted + view.earned - view.spent for view in views) == MEMBERS * STARTER, "balances"

        first, *others = ring  # what one of them can gather is what the others were given
        for member in others:
            left = await member.balance()
            count = most_of(grid, left)
            raw = member.voucher(first.account, secrets.token_hex(16), count)
            assert await one.submit(member.key, raw) == ["accepted"]
            traded += grid.cost(count)
        views = await sums(one, ring, traded)
        gathered = contribution(views[0])
        assert 0 < gathered <= (MEMBERS - 1) * STARTER
        assert sum(contribution(view) for view in views) == 0

        second = others[0]  # and it does not grow when one purse goes round
        for _ in range(LAPS):
            purse = await first.balance()
            assert await one.submit(first.key, first.transfer(second.account, purse)) == ["accepted"]
            await until(lambda purse=purse: has(second, purse))
            count = most_of(grid, purse)
            raw = second.voucher(first.account, secrets.token_hex(16), count)
            assert await one.submit(second.key, raw) == ["accepted"]
            traded += grid.cost(count)
            views = await sums(one, ring, traded)
        assert views[0].earned > 3 * gathered, "it did go round"
        assert contribution(views[0]) <= MEMBERS * STARTER
        assert sum(contribution(view) for view in views) <= 0
    code, told = grid.verify()
    assert code == 0, told
    assert told["minted"] == MEMBERS * STARTER


def most_of(grid: TradeGrid, micro: int) -> Count:
    """As many tokens as that buys."""
    return Count(decode=micro // (grid.cost(Count(decode=1)) + 1))


async def has(member: Crook, micro: int) -> bool:
    """Whether its home keeper knows of so much: another keeper's transfers come by mirroring."""
    return await member.balance() >= micro


async def free_accounts(grid: TradeGrid, count: int) -> list[tuple[str, int]]:
    """So many names, each for nothing: how each was served, and how many tokens it had."""
    (node,) = grid.nodes
    outcomes = []
    async with crook(grid) as one:
        for _ in range(count):
            one.key = Identity.ephemeral()
            wire = await one.wire(node)
            try:
                escrow = await one.escrow(node.account, wire.session, ALLOWANCE)
            except Insufficient:
                escrow = b""
            said = await wire.open(escrow)
            served = 0
            if isinstance(said, Ready):
                while served < 60 and (gained := await wire.steps_held() + await wire.steps(60 - served)):
                    served += gained
                    wire.pay(one.voucher(node.account, wire.session, Count(decode=served)))
                    if isinstance(wire.stopped, Owing) and "is used up" in wire.stopped.text:
                        break
            outcomes.append((said.code if isinstance(said, Refused) else "ready", served))
            wire.leave()
            await wire.close()
        with pytest.raises(Insufficient):
            await one.escrow(node.account, secrets.token_hex(16), ALLOWANCE)  # the second time on one day
        assert (await one.keepers.account(node.account)).earned == 0
    return outcomes


@pytest.mark.parametrize("policy", ["allowance", "lowest"])
async def test_free_accounts_get_what_the_policy_gives_each_of_them(tmp_path: Path, policy: str) -> None:
    """That those who have nothing are refused under ``nothing`` is in test_ledger_attacks.py."""
    flags = ("--newcomers", policy, "--window", "4")
    flags += ("--allowance", str(ALLOWANCE / 1e6)) if policy == "allowance" else ()
    grid = TradeGrid(tmp_path, *flags, count=1, threshold=1)
    try:
        grid.serve(1)
        outcomes = await free_accounts(grid, 3)
        print(policy, outcomes)  # noqa: T201
        if policy == "allowance":
            most = (ALLOWANCE + grid.window) // grid.cost(Count(decode=1))
            assert all(code == "ready" and 4 < served <= most for code, served in outcomes)
        else:
            assert outcomes == [("ready", 60)] * 3
    finally:
        grid.close()
