"""Paying where the charter lets everybody in, and the keeper is silent: who has credit pays all the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from gridllm.wire.messages import RowSlice
from gridllm_client.session import Session
from tests.unit.paid_grid import feed, generate, paid, settled, watch_pauses
from tests.unit.tiny_models import LAYERS, Tiny, make_model

CUTS = (0, 2, 4, 5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


def offers(session: Session) -> bool:
    """Whether it offered all of its nodes to pay without escrow; else none of them."""
    (offered,) = {b"pays" in msgspec.msgpack.encode(hop.payment) for hop in session._chain.hops}
    return offered


async def test_a_silent_keeper_costs_no_node_its_pay_on_a_grid_for_all(tiny: Tiny, tmp_path: Path) -> None:
    """Opened before and after it fell silent: nodes keep the vouchers, hand them in later, and are paid for all."""
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, newcomers="lowest", trust=10**9, window_tokens=8) as grid:
        midway = grid.session()
        await generate(midway, 10, 10)
        assert not offers(midway), "nodes of before it was known take this"
        grid.keeper.silent = True
        for position in range(20, 60):
            await feed(midway, [RowSlice(0, 0, position, 1, 1)])
        midway.close()
        session = grid.session(tokens=100)
        pauses = watch_pauses(session)
        await generate(session, 40, 20)
        assert offers(session)
        session.close()
        await settled()
        assert [event.kind for event in grid.events] == ["opened", "repaired", "opened"]
        assert pauses == []
        grid.keeper.silent = False
        bills = [*midway.bills, *session.bills]
        assert await grid.hand_in() == sum(bill.micro for bill in bills) > 0
        spans = pairwise(CUTS)
        assert sum(bill.micro for bill in session.bills) == sum(grid.price(*span, 39, 21) for span in spans)


async def test_beyond_their_trust_nodes_serve_for_nothing_on_a_grid_for_all(tiny: Tiny, tmp_path: Path) -> None:
    """Nobody is held up: they go on at the lowest priority, and are paid what was signed."""
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, newcomers="lowest", trust=10_000, window_tokens=8) as grid:
        await grid.wallet.renew()
        grid.keeper.silent = True
        session = grid.session(tokens=400)
        pauses = watch_pauses(session)
        await generate(session, 10, 2)
        served = {node.record.peer: one.terms for node in grid.listed for one in node.service._sessions}
        assert {terms.priority for terms in served.values()} == {1}
        for position in range(12, 100):
            await feed(session, [RowSlice(0, 0, position, 1, 1)])
        assert {terms.priority for terms in served.values()} == {0}
        assert all(terms.bill is not None and 0 < terms.bill.cost <= 10_000 for terms in served.values())
        session.close()
        await settled()
        assert pauses == []
        grid.keeper.silent = False
        assert await grid.hand_in() == sum(bill.micro for bill in session.bills)
        again = grid.session(tokens=100, wallet=grid.new_wallet())
        await generate(again, 10, 2)
        again.close()
        assert all(tab.escrow for _, tab in again._payer._tabs.values())  # type: ignore[union-attr]


async def test_who_is_not_trusted_goes_last_on_a_grid_for_all(tiny: Tiny, tmp_path: Path) -> None:
    async with paid(tiny.folder, LAYERS, CUTS, tmp_path, newcomers="lowest", trust=10**9) as grid:
        grid.keeper.silent = True  # it never had a pass
        session = grid.session(tokens=100)
        await generate(session, 80, 5)
        session.close()
        assert [event.kind for event in grid.events] == ["unpaid", "opened"]
        assert "served at lowest priority: The ledger keeper" in grid.events[0].text
        assert session.bills == ()
