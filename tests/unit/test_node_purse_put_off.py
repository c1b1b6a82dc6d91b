"""Bills that their payers have nothing for: a node keeps so many of them, those that are worth most."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gridllm.ledger.messages import Outcome
from gridllm.node.counter import purse
from tests.unit.purse_counter import Counter

TOKENS = (5, 3, 9, 7)


@pytest.fixture
async def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter]:
    monkeypatch.setattr(purse, "MOST_PUT_OFF", 2)
    made = Counter(tmp_path)
    async with made.purse:
        yield made


@pytest.mark.parametrize("code", ["later", "bad_payment"])
async def test_the_least_of_what_nobody_pays_is_let_go(counter: Counter, code: str) -> None:
    counter.desk.answer = lambda entry: Outcome(code, "The payer has no more now.")
    bills = [counter.served(tokens, session=f"{tokens:02x}" * 16) for tokens in TOKENS]
    await counter.handing.round()
    counter.purse.forget_old()
    assert len(list(counter.purse.slips())) == len(TOKENS)  # their escrows have not ended
    counter.clock.now = bills[0].expires + 301
    for _ in range(purse.PUT_OFF_TRIES - 1):
        counter.purse.forget_old()
        assert code == "bad_payment" or len(list(counter.purse.slips())) == len(TOKENS)  # it may be the keeper's fault
        for slip in counter.purse.slips():
            slip.again_at = 0.0
        await counter.handing.round()
    counter.purse.forget_old()
    kept = {slip.tab.session for slip in counter.purse.slips()}
    assert kept == {"09" * 16, "07" * 16}
    assert counter.purse.earnings.waiting == (0 if code == "bad_payment" else bills[2].claimed + bills[3].claimed)
    await counter.purse.flush()
    again = await counter.restarted()
    assert {slip.tab.session for slip in again.slips()} == kept
    await again.__aexit__(None, None, None)
