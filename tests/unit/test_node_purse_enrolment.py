"""A node's admission certificate reaches the keepers that are to pay it: its own, and those of its payers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gridllm.admission.certificate import Certificate
from gridllm.ledger.messages import Outcome
from tests.ledgers import hex_of
from tests.unit.node_paying import Payer
from tests.unit.purse_counter import Counter, price


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    made = Counter(tmp_path)
    async with made.purse:
        yield made


def own_keeper(counter: Counter) -> str:
    return counter.desk.home(hex_of(counter.node))


def payer_elsewhere(counter: Counter) -> Payer:
    """One whose keeper is another than the node's."""
    while True:
        payer = Payer(counter.scribe, counter.node)
        if counter.desk.home(payer.account) != own_keeper(counter):
            return payer


def shown(counter: Counter) -> list[str]:
    """Keepers that were handed the certificate."""
    return [keeper for keeper, said in counter.desk.heard if isinstance(said, Certificate)]


async def test_the_node_enrols_itself(counter: Counter) -> None:
    codes = ["later", "accepted"]
    counter.desk.answer = lambda entry: Outcome(codes.pop(0))
    counter.handing.enrol(counter.scribe.enrolment(counter.node).raw)
    for _ in range(3):
        await counter.handing.round()
    assert len(counter.desk.heard) == 2
    assert {keeper for keeper, _ in counter.desk.heard} == {counter.desk.home(hex_of(counter.node))}


async def test_a_payers_keeper_that_does_not_know_the_node_is_told(counter: Counter) -> None:
    """The node's own took the certificate, and what it knows has not reached the payer's."""
    payer = payer_elsewhere(counter)
    home = counter.desk.home(payer.account)

    def answer(entry: Any) -> Outcome:
        known = isinstance(entry.statement, Certificate) or home in shown(counter)
        return Outcome("accepted") if known else Outcome("later", "This node handed in no admission certificate yet.")

    counter.desk.answer = answer
    counter.handing.enrol(counter.scribe.enrolment(counter.node).raw)
    counter.served(7, payer)
    for _ in range(2):
        await counter.handing.round()
        counter.clock.now += 30
    assert sorted(shown(counter)) == sorted([own_keeper(counter), home])
    assert counter.purse.earnings == (price(counter, 7), 0)


async def test_it_is_told_once_for_each_renewal(counter: Counter) -> None:
    """A voucher may wait for other reasons, for long."""
    payer = payer_elsewhere(counter)
    home = counter.desk.home(payer.account)
    certificate = counter.scribe.enrolment(counter.node).raw
    taken = Outcome("accepted")
    counter.desk.answer = lambda entry: (
        taken if isinstance(entry.statement, Certificate) else Outcome("later", "Empty.")
    )
    counter.served(7, payer)
    for renewals in (1, 2):
        counter.handing.enrol(certificate)
        for _ in range(9):
            await counter.handing.round()
            counter.clock.now += 86400
        assert shown(counter).count(home) == shown(counter).count(own_keeper(counter)) == renewals
