"""A volunteer in a grid that keeps books: it is paid, hands in, and what was not taken waits for its next start."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import gridllm.node.counter.handing as handing
from gridllm.charter.economy import Economy, home_of
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.messages import Outcome, Outcomes, Submit, pack, unpack
from gridllm.ledger.paper import Rulebook, sign
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import Delegation, Escrow, Pass, Release, Voucher
from gridllm.models.manifest import parse_manifest
from gridllm.models.sizes import block_parameters
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Close, Open, Pay, Payment, Ready, Refused
from tests.charters import MAINTAINERS
from tests.ledgers import hex_of
from tests.unit.fake_keeper import FakeKeeper
from tests.unit.node_life import Life, demo, living
from tests.unit.node_paying import SID, Wire
from tests.unit.notes import until

PAID = Economy(required=True, newcomers="nothing")


def rules_of(life: Life) -> Rulebook:
    return Rulebook(life.signed, {life.entry.root: block_parameters(parse_manifest(demo()[1]))})


class Customer:
    """Opens one session, pays for three tokens ahead, and closes it."""

    def __init__(self, life: Life) -> None:
        self.life, self.account, self.connection = life, Identity.ephemeral(), Identity.ephemeral()
        now = int(time.time())
        home = home_of(hex_of(self.account), life.signed.charter.keepers)
        self.keeper = next(one for one in MAINTAINERS if hex_of(one) == home)
        grid, account = life.signed.grid, hex_of(self.account)
        own = {"grid": grid, "account": account, "issued": now}
        self.tab: dict[str, Any] = {"session": SID.hex(), "payer": account, "payee": hex_of(life.identity)}
        self.tab |= {"grid": grid, "model": life.entry.root, "start": 0, "end": 2, "issued": now}
        access = Pass(contribution=0, available=0, keeper=home, expires=now + 600, **own)
        held = Escrow(micro=10**9, gift=False, expires=now + 1800, keeper=home, **self.tab)
        delegation = Delegation(client=self.connection.peer, expires=now + 3600, **own)
        papers = sign(delegation, self.account), sign(access, self.keeper), sign(held, self.keeper)
        self.payment = Payment(*papers)
        self.due = rules_of(life).price(life.entry.root, 0, 2, Count(0, 3))

    def open(self, payment: Payment | None) -> Open:
        peer, root = self.connection.peer, self.life.entry.root
        return Open(1, SID, root, "float32", 0, 2, 1, 0, peer, None, [0], payment=payment)

    async def visit(self) -> None:
        wire = Wire(self.life.network.join(self.connection))
        node = self.life.network.find(self.life.identity.peer)
        await wire.join(node)
        wire.link.send(self.open(None))
        refused = await wire.hears(Refused)
        assert refused.code == "not_entitled"
        wire.link.send(self.open(self.payment))
        await wire.hears(Ready)
        wire.link.send(Pay(SID, sign(Voucher(prefill=0, decode=3, micro=self.due, **self.tab), self.account)))
        wire.link.send(Close(SID))
        await wire.close()
        await wire.swarm.close()


class Taker(FakeKeeper):
    """Takes whatever the rules allow."""

    async def _submit(self, peer: PeerId, payload: bytes) -> bytes:
        entries = [self.rules.read(raw) for raw in unpack(payload, Submit).statements]
        self.take(entries)
        return pack(Outcomes([Outcome("accepted")] * len(entries)))


async def keepers(life: Life, network: MemoryNetwork, stack: AsyncExitStack) -> list[FakeKeeper]:
    found = []
    for maintainer in MAINTAINERS:
        swarm = network.join(Identity.ephemeral())
        stack.push_async_callback(swarm.close)
        keeper = Taker(swarm, life.signed, maintainer, rules_of(life))
        await keeper.start()
        found.append(keeper)
    return found


def logged(found: list[FakeKeeper], rules: Rulebook) -> list[type]:
    return [type(rules.read(raw).statement) for keeper in found for raw in keeper.own.raws]


async def test_it_is_paid_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "SOON_S", 0.05)
    async with AsyncExitStack() as stack, living(tmp_path, economy=PAID) as life:
        found = await keepers(life, life.network, stack)
        await life.serving()
        customer = Customer(life)
        await customer.visit()
        await until(lambda: logged(found, rules_of(life)) == [Voucher, Release])
        await until(lambda: bool(life.notes.pulses) and life.notes.pulses[-1].earned == customer.due)
        life.stops.stop.set()
        await life.task
        assert any(line.startswith("This node earned 0.") and line.endswith(" credits.") for line in life.notes.lines)


async def test_what_no_keeper_took_waits_for_the_next_start(tmp_path: Path) -> None:
    identity, network = Identity.ephemeral(), MemoryNetwork()
    async with living(tmp_path, network, economy=PAID, identity=identity) as life:
        await life.serving()
        customer = Customer(life)
        await customer.visit()
        life.stops.stop.set()
        await life.task
        assert any("not yet handed in" in line for line in life.notes.lines)
    async with AsyncExitStack() as stack:
        found = await keepers(life, network, stack)
        async with living(tmp_path, network, economy=PAID, identity=identity) as again:
            await again.serving()
            await until(lambda: logged(found, rules_of(life)) == [Voucher, Release])


async def test_a_lost_swarm_costs_it_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "SOON_S", 0.05)
    monkeypatch.setattr(handing, "EVERY_S", 0.5)
    async with AsyncExitStack() as stack, living(tmp_path, economy=PAID) as life:
        record = await life.serving()
        await Customer(life).visit()
        life.network.kill(record.peer)
        await life.serving()
        found = await keepers(life, life.network, stack)
        await Customer(life).visit()
        await until(lambda: Counter(logged(found, rules_of(life))) == {Voucher: 2, Release: 2})


async def test_a_grid_without_an_economy_leaves_no_purse_behind(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        await life.serving()
        await until(lambda: bool(life.notes.pulses))
        assert life.notes.pulses[-1].earned is None
    assert not life.pins.purse_path(life.signed, hex_of(life.identity)).exists()


async def test_a_purse_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    async with living(tmp_path, economy=PAID) as life:
        path = life.pins.purse_path(life.signed, hex_of(life.identity))
        path.mkdir(parents=True)
        with pytest.raises(LedgerError, match=path.name):
            await life.task
