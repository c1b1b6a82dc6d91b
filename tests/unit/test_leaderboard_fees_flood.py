"""Fees among others' transfers: whoever sends the leaderboard many small ones hides none that somebody paid."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Grant, Transfer
from gridllm_leaderboard.desk import fees
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house

SMALL = 40


async def flood(made: House, stranger: Identity) -> None:
    """Transfers of next to nothing, more than a few pages of them."""
    keepers, common = Keepers(made.network.join(stranger), made.signed), {"grid": made.signed.grid, "issued": 1}
    grant = Grant(account=hex_of(stranger), micro=SMALL, reason="a test", serial="ab" * 16, **common)
    raws = [sign(grant, made.maintainer)]
    for number in range(SMALL):
        said = Transfer(
            payer=hex_of(stranger), payee=hex_of(made.identity), micro=1, memo="", serial=f"{number:032x}", **common
        )
        raws.append(sign(said, stranger))
    assert {one.code for one in await keepers.submit(keepers.all[0], raws)} == {"accepted"}


async def test_a_fee_is_found_beneath_any_number_of_transfers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fees, "PAGE", 5)
    monkeypatch.setattr(fees, "MOST_PAGES", 3, raising=False)
    async with house(tmp_path, fee=CREDIT) as made:
        id_ = await made.submit(1)
        await made.until(id_, "unpaid")
        await made.stop()
        await made.pay(id_, CREDIT, made.author)
        await flood(made, Identity.ephemeral())
        await made.start()
        await made.until(id_, "queued", "locked")
