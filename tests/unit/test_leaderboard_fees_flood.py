"""Fees among others' transfers: whoever sends many small ones hides none that was paid, from whoever looks for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import HistoryRow
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Grant, Transfer
from gridllm_leaderboard.desk import fees
from gridllm_leaderboard.payments import memo_for
from gridllm_leaderboard.submitting import fee
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


async def test_an_author_finds_the_fee_that_was_paid_and_pays_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fee, "PAGE", 2)
    monkeypatch.setattr(fee, "MOST_PAGES", 3, raising=False)
    author, stranger, board = Identity.ephemeral(), Identity.ephemeral(), Identity.ephemeral()
    common: dict[str, Any] = {"grid": "ab" * 32, "issued": 100}
    view: Any = SimpleNamespace(id="cd" * 32, issued=100, pay_to=hex_of(board), fee=CREDIT)
    paid = Transfer(
        payer=hex_of(author), payee=hex_of(board), micro=CREDIT, memo=memo_for(view.id), serial="ef" * 16, **common
    )
    raws = [sign(paid, author)]
    for number in range(SMALL):
        small = Transfer(
            payer=hex_of(stranger), payee=hex_of(author), micro=1, memo="", serial=f"{number:032x}", **common
        )
        raws.append(sign(small, stranger))
    rows = [HistoryRow(place, "ab" * 32, place, 100, raw) for place, raw in enumerate(raws)]

    class Books:
        async def history(self, _: str, *, since: int, before: int | None, limit: int) -> list[HistoryRow]:
            found = [row for row in reversed(rows) if (before is None or row.cursor < before) and row.at >= since]
            return found[:limit]

    books: Any = Books()
    assert await fee._was_paid(books, hex_of(author), view)
    rows.pop(0)
    assert not await fee._was_paid(books, hex_of(author), view)
