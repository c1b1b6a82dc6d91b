"""One account with credit for one session, at many nodes at once: what they served, and what of it was paid."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from gridllm.errors import Insufficient
from gridllm.identity.keys import Identity
from gridllm.ledger.prices import Count
from gridllm.wire.messages import Owing, Ready, Refused
from tests.swarm.ledger_cheats import Crook, Node, TradeGrid, Wire, crook, until

TRUST = 200_000  # micro-credits: about 63 tokens of the demo model


def tokens(grid: TradeGrid, count: int) -> int:
    """Micro-credits for so many."""
    return grid.cost(Count(decode=count))


async def refused(wire: Wire, escrow: bytes = b"", **shown: Any) -> str:
    """The code and sentence of a session that must not come to be."""
    wire.session = secrets.token_hex(16) if "session" not in shown else shown.pop("session")
    said = await wire.open(escrow, **shown)
    assert isinstance(said, Refused), "it was served"
    return f"{said.code}: {said.message}"


async def spend_at_once(grid: TradeGrid, nodes: Sequence[Node]) -> dict[str, int]:
    """One account with credit for one session, and a session at every node at once; what became of it."""
    credit, each = tokens(grid, 64), tokens(grid, 64)
    async with crook(grid, credit=credit) as one, crook(grid, credit=credit) as miser:
        wires = await asyncio.gather(*(one.wire(node) for node in nodes))
        asked = [one.escrow(wire.node.account, wire.session, each) for wire in wires]
        escrows = await asyncio.gather(*asked, return_exceptions=True)
        given = [raw for raw in escrows if isinstance(raw, bytes)]
        assert len(given) == 1, "one balance is set aside once"
        assert sum(isinstance(raw, Insufficient) for raw in escrows) == len(nodes) - 1
        opened = await asyncio.gather(*(wire.open(raw if isinstance(raw, bytes) else given[0])
                                        for wire, raw in zip(wires, escrows, strict=True)))  # fmt: skip
        assert [isinstance(said, Ready) for said in opened] == [isinstance(raw, bytes) for raw in escrows]
        (wire,) = (wire for wire, said in zip(wires, opened, strict=True) if isinstance(said, Ready))
        await wire.steps(1000)

        lines = await asyncio.gather(*(miser.wire(node) for node in nodes))  # a part at each, and nothing is signed
        parts = await asyncio.gather(
            *(miser.escrow(line.node.account, line.session, credit // len(nodes)) for line in lines)
        )
        for line, part in zip(lines, parts, strict=True):
            assert isinstance(await line.open(part), Ready)
        await asyncio.gather(*(line.steps(1000) for line in lines))
        for line in (*wires, *lines):
            line.leave()
        await asyncio.sleep(2)
        assert (await one.keepers.account(one.account)).spent == 0
        return {"whole": wire.served, "parts": sum(line.served for line in lines)}


def check_bounds(grid: TradeGrid, lost: dict[str, int], nodes: int) -> None:
    print(f"{nodes} nodes, window {grid.window}: lost {lost}")  # noqa: T201  # to be seen with -s
    assert 0 < lost["whole"] <= grid.window
    assert 0 < lost["parts"] <= min(nodes * grid.window, 2 * tokens(grid, 64))


async def spend_on_trust(grid: TradeGrid, nodes: Sequence[Node]) -> tuple[int, int, int]:
    """The same while the account's keeper is silent: what the nodes served, what the books paid, what there was."""
    account = Identity.ephemeral()
    poor = grid.account_at(grid.home_number(account))
    credit = tokens(grid, 64)
    async with crook(grid, account, credit=credit) as one, crook(grid, poor) as pauper:
        access, nothing = await one.access(), await pauper.access()
        wires = await asyncio.gather(*(one.wire(node) for node in nodes))
        beggar = await pauper.wire(nodes[0])
        grid.kill(grid.home_number(account))
        try:
            said = await refused(beggar, access=nothing)
            assert "had nothing left when it last spoke" in said, "names cost nothing"
            vouchers = await asyncio.gather(*(_take_on_trust(one, wire, access) for wire in wires))
            assert not await _more_on_trust(wires[0], access), "another session has no trust of its own"
        finally:
            grid.keep(grid.home_number(account))
        await until(lambda: one.keepers.account(one.account))
        await one.submit(account, *vouchers)  # as the nodes do, each in its own time
        view = await until(lambda: _all_spent(one, credit))
        assert view.sent == view.escrowed == 0
        return sum(wire.served for wire in wires), view.spent, credit


async def _take_on_trust(one: Crook, wire: Wire, access: bytes) -> bytes:
    """All that the node gives; the last voucher."""
    assert isinstance(await wire.open(access=access), Ready)
    voucher = b""
    while await wire.steps_held() + await wire.steps(1000):
        voucher = one.voucher(wire.node.account, wire.session, wire.meter.count)
        wire.pay(voucher)
        if isinstance(wire.stopped, Owing) and "trusts the account no further" in wire.stopped.text:
            break
    wire.leave()
    return voucher


async def _more_on_trust(wire: Wire, access: bytes) -> int:
    """Tokens of another session at the same node."""
    before, session = wire.meter, wire.session
    wire.begin_session()
    said = await wire.open(access=access)
    served = await wire.steps(5) if isinstance(said, Ready) else 0
    wire.leave()
    wire.meter, wire.session = before, session
    return served


async def _all_spent(one: Crook, credit: int) -> Any:
    view = await one.keepers.account(one.account)
    return view if view.spent == credit else None


def check_trust(nodes: int, told: tuple[int, int, int]) -> None:
    served, paid, credit = told
    print(f"{nodes} nodes, trust {TRUST}: served {served}, paid {paid}, lost {served - paid}")  # noqa: T201
    assert paid == credit, "all that there was, and no more"
    assert 0 < served - paid <= nodes * TRUST - credit
