"""``kill -9`` of a keeper while clients pay: what it acknowledged stays, what they hand in again counts once."""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gridllm.admission.cards import AuthorityCard
from gridllm.charter.document import SignedCharter
from gridllm.errors import GridError, TooSoon
from gridllm.identity.keys import Identity, load
from gridllm.ledger.audit import audit
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.heads import Head, verify_grown, verify_head
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import Rulebook, id_of, sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Delegation, Grant, Voucher
from gridllm.models.sizes import block_parameters
from gridllm.swarm.interface import Swarm
from gridllm.swarm.libp2p import open_swarm
from gridllm_bootstrap.home import Home
from tests.swarm.authorities import candidate
from tests.swarm.grid import ProcessGrid
from tests.unit.spelled_books import books_of

CREDIT = 10**15  # for each payer, micro-credits
RESERVED = 10**13  # on every other bill
LOADS = 4  # clients that hand in at the same time


@dataclass
class Bill:
    """One node's bill in one session, as the client has it in its own books."""

    payer: Identity
    payee: Identity
    session: str
    reserved: int
    promised: int = 0  # tokens, by the last voucher that was written
    acknowledged: int = 0  # tokens, by the highest voucher that the keeper said it took
    vouchers: dict[int, bytes] = field(default_factory=dict)  # all of them, by tokens


class Till:
    """A client, its bills, and what it was told."""

    def __init__(self, rules: Rulebook, keeper: Identity, rng: random.Random) -> None:
        self.signed, self.rules, self.keeper, self.rng = rules.signed, rules, keeper, rng
        self.entry = rules.signed.charter.models[0]
        self.home = keeper.public_key.hex()
        self.payers = [Identity.ephemeral() for _ in range(3)]
        self.payees = [Identity.ephemeral() for _ in range(3)]
        self.bills = [
            Bill(payer, payee, rng.randbytes(16).hex(), RESERVED * (number % 2))
            for payer in self.payers
            for payee in self.payees
            for number in range(LOADS)
        ]
        self.heads: list[Head] = []
        self.acknowledged = 0  # statements
        self.unanswered = 0
        self.swarm: Swarm | None = None

    async def meet(self) -> None:
        """With a connection of its own: libp2p would not dial again so soon after it dialled in vain."""
        await self.leave()
        addresses = self.signed.charter.first_peers
        self.swarm = await open_swarm(
            Identity.ephemeral(), initial_peers=addresses, client_only=True, namespace=self.signed.grid
        )
        self.keepers = Keepers(self.swarm, self.signed, find=self.find)

    async def leave(self) -> None:
        if self.swarm is not None:
            await self.swarm.close()

    async def find(self, _swarm: Swarm, _signed: SignedCharter) -> list[AuthorityCard]:
        """The keeper's card, which no DHT has when its only first peer was killed."""
        address, now = self.signed.charter.first_peers[0], int(time.time())
        peer = address.rsplit("/", 1)[-1]
        return [
            AuthorityCard(
                grid=self.signed.grid,
                maintainer=self.home,
                peer=peer,
                addresses=[address],
                issued=now,
                expires=now + 900,
            )
        ]

    async def begin(self) -> None:
        """Credit for all payers, and escrows for every other bill."""
        await self.meet()
        assert self.swarm is not None
        now = int(time.time())
        for payer in self.payers:
            account = payer.public_key.hex()
            fields = {"account": account, "micro": CREDIT, "reason": "a test", "serial": self.rng.randbytes(16).hex()}
            grant = sign(Grant(grid=self.signed.grid, issued=now, **fields), self.keeper)
            (outcome,) = await self.keepers.submit(self.home, [grant])
            assert outcome.code == "accepted"
            wishes = [
                Wish(bill.session, bill.payee.public_key.hex(), self.entry.root, 0, self.entry.blocks, bill.reserved)
                for bill in self.bills
                if bill.payer is payer and bill.reserved
            ]
            said = Delegation(
                grid=self.signed.grid, account=account, client=self.swarm.peer, issued=now, expires=now + 3600
            )
            assert len(await self.keepers.escrows(account, sign(said, payer), wishes)) == len(wishes)

    def voucher(self, bill: Bill) -> bytes:
        """A higher one than all before."""
        bill.promised += self.rng.randrange(1, 50)
        said = Voucher(
            grid=self.signed.grid,
            session=bill.session,
            payer=bill.payer.public_key.hex(),
            payee=bill.payee.public_key.hex(),
            model=self.entry.root,
            start=0,
            end=self.entry.blocks,
            issued=int(time.time()),
            prefill=0,
            decode=bill.promised,
            micro=self.micro(bill.promised),
        )
        bill.vouchers[bill.promised] = raw = sign(said, bill.payer)
        return raw

    def micro(self, tokens: int) -> int:
        return self.rules.price(self.entry.root, 0, self.entry.blocks, Count(decode=tokens))

    async def pay(self, bills: Sequence[Bill]) -> None:
        """Hand in ever higher vouchers, some of them twice, until the keeper is gone."""
        while True:
            some = self.rng.sample(bills, self.rng.randrange(1, len(bills)))
            handed = [(bill, self.voucher(bill), bill.promised) for bill in some]
            again = self.rng.choice(some)
            number, old = self.rng.choice([*again.vouchers.items()])
            known = number <= again.acknowledged
            try:
                outcomes = await self.keepers.submit(self.home, [old, *(raw for _, raw, _ in handed)])
            except TooSoon:  # it has others to answer as well
                await asyncio.sleep(0.2)
                continue
            except GridError:
                self.unanswered += len(handed)
                return
            assert outcomes[0].code == "known" or not known, outcomes[0]
            for (bill, _, tokens), outcome in zip(handed, outcomes[1:], strict=True):
                assert outcome.code in ("accepted", "known"), outcome
                bill.acknowledged = max(bill.acknowledged, tokens)
                self.acknowledged += 1

    async def look(self, after: int = 0) -> Head:
        """The keeper's head, which must continue the last one; one signed later than ``after`` is asked for."""
        raws = (await self.keepers.heads(self.home, after=after)).heads
        head = max((verify_head(raw, self.signed) for raw in raws), key=lambda head: (head.size, head.issued))
        if self.heads and self.heads[-1] != head:
            await self.check_grown(self.heads[-1], head)
        self.heads.append(head)
        return head

    async def check_grown(self, old: Head, new: Head) -> None:
        proof = await self.keepers.proof(self.home, self.home, new.size, first=old.size) if old.size else []
        verify_grown(old, new, proof)

    async def check_kept(self) -> None:
        """Each node has what was acknowledged, and no more than was promised."""
        for payee in self.payees:
            bills = [bill for bill in self.bills if bill.payee is payee]
            earned = (await self.keepers.account(payee.public_key.hex())).earned
            assert sum(self.micro(bill.acknowledged) for bill in bills) <= earned, "an acknowledged voucher is lost"
            assert earned <= sum(self.micro(bill.promised) for bill in bills), "a voucher counts twice"

    async def settle(self) -> None:
        """Hand in every bill's last voucher: now the keeper's books must be the client's own."""
        outcomes = await self.keepers.submit(
            self.home, [bill.vouchers[bill.promised] for bill in self.bills if bill.promised]
        )
        assert {outcome.code for outcome in outcomes} <= {"accepted", "known"}
        for payer in self.payers:
            bills = [bill for bill in self.bills if bill.payer is payer]
            view = await self.keepers.account(payer.public_key.hex())
            assert view.spent == sum(self.micro(bill.promised) for bill in bills)
            assert view.granted == CREDIT and not view.earned
            assert view.escrowed == sum(bill.reserved and bill.reserved - self.micro(bill.promised) for bill in bills)
        for payee in self.payees:
            bills = [bill for bill in self.bills if bill.payee is payee]
            view = await self.keepers.account(payee.public_key.hex())
            assert view.earned == sum(self.micro(bill.promised) for bill in bills)

    async def check_log(self) -> None:
        """No statement stands in the log twice, it says what the accounts say, and every head ever shown began it."""
        head = await self.last_head()
        raws: list[bytes] = []
        while len(raws) < head.size:
            raws += await self.keepers.entries(self.home, self.home, len(raws))
        entries = [self.rules.read(raw, self.home) for raw in raws]
        ids = [id_of(entry.statement) for entry in entries]
        assert len(set(ids)) == len(ids)
        written = {raw for bill in self.bills for raw in bill.vouchers.values()}
        assert {entry.raw for entry in entries if isinstance(entry.statement, Voucher)} <= written
        books = books_of(entries, 0)
        for account, sums in books.accounts.items():
            assert (await self.keepers.account(account)).spent == sums.spent
        for seen in self.heads:
            if seen != head:
                await self.check_grown(seen, head)

    async def last_head(self) -> Head:
        """Over the whole log: it was signed later than the last statement was taken."""
        taken = int(time.time())
        async with asyncio.timeout(60):
            while (head := await self.look(taken)).issued <= taken:  # noqa: ASYNC110 - another process decides when
                await asyncio.sleep(0.5)
        return head


async def killed(folder: Path, times: int, seed: int) -> None:
    rng = random.Random(seed)
    grid = ProcessGrid(folder)
    restarts = []
    try:
        await asyncio.to_thread(grid.found, "demo", None, ("--open", "--ledger", "--starter", "0"))
        home = Home(grid.maintainer / "data" / "gridllm" / "bootstrap")
        keeper = load(home.maintainer_key("test"))
        async with candidate(grid.address) as client:
            signed, sizes = client.signed, {client.signed.charter.models[0].root: block_parameters(client.manifest)}
        till = Till(Rulebook(signed, sizes), keeper, rng)
        try:
            await till.begin()
            for _ in range(times):
                async with asyncio.TaskGroup() as group:
                    for number in range(LOADS):
                        group.create_task(till.pay(till.bills[number::LOADS]))
                    await asyncio.sleep(rng.uniform(0.05, 1.0))
                    await till.look()
                    grid.bootstraps[0].process.send_signal(signal.SIGKILL)
                began = time.monotonic()
                await asyncio.to_thread(grid.bootstraps[0].wait)
                await asyncio.to_thread(grid.start_bootstrap)
                restarts.append(time.monotonic() - began)
                await till.meet()
                await till.look()
                await till.check_kept()
            await till.settle()
            await till.check_log()
            report = await audit(till.keepers, signed, sizes)
            assert report.tally is not None and report.tally.minted == CREDIT * len(till.payers)
        finally:
            await till.leave()
        print(  # noqa: T201  # to be seen with -s
            f"{times} kills: {till.acknowledged} vouchers acknowledged, {till.unanswered} without an answer; ready "
            f"again after {statistics.median(restarts):.1f} s (median), {max(restarts):.1f} s at most; "
            f"{till.heads[-1].size} entries"
        )
        assert till.acknowledged
    finally:
        await asyncio.to_thread(grid.close)


@pytest.mark.timeout(300)
async def test_a_killed_keeper_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    await killed(tmp_path, 3, seed=0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_keeper_is_killed_a_hundred_times(tmp_path: Path) -> None:
    await killed(tmp_path, 100, seed=1)
