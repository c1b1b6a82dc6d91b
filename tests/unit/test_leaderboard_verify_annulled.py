"""``verify`` and rounds that are void: they are counted, and one that is forged or has consequences is named."""

from __future__ import annotations

from typing import Any

import pytest

from gridllm.charter.contest import PATIENCE_S
from gridllm.identity.keys import Identity
from gridllm_leaderboard.verifying.examine import examine
from gridllm_leaderboard.verifying.walk import UnsoundError, Walk
from tests.unit.board_pages import reign
from tests.unit.graded_rounds import named
from tests.unit.log_heads import NOW, SIGNED
from tests.unit.verified_board import Board

WHAT = "the rounds that were annulled"


async def _told(board: Board, name: str = "new") -> str:
    walk = Walk()
    await examine(board, SIGNED, board.ids[name], walk)
    return next(one.detail for one in walk.checks if one.what == WHAT)


async def _wrong(board: Board) -> str:
    walk = Walk()
    with pytest.raises(UnsoundError) as caught:
        await examine(board, SIGNED, board.ids["new"], walk)
    assert walk.checks[-1].outcome == "wrong"
    return str(caught.value)


async def test_they_are_counted() -> None:
    board = Board()
    assert await _told(board) == "none"
    board.void_round(7, drawn=True)
    board.void_round(6, issued=NOW + 1 + PATIENCE_S, reason="its keeper is lost")
    said = await _told(board)
    assert said.startswith(
        "2 rounds, 1 before the rules' patience was over, 1 after the items were drawn; of them with"
    )
    assert said.endswith("with this submission: round 7 (a test), round 6 (its keeper is lost)")
    assert (await _told(board, "old")).endswith("none with this submission")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"signer": Identity.ephemeral()}, "forged", id="a stranger's"),
        pytest.param({"lock": named("else")}, "annulment is of another lock than that of round 7", id="another lock"),
        pytest.param({"round": 8}, "annulment is of another lock than that of round 7", id="another round"),
        pytest.param({"grid": "b2" * 32}, "of another grid", id="another grid"),
    ],
)
async def test_what_is_forged_is_named(fields: dict[str, Any], says: str) -> None:
    board = Board()
    board.void_round(7, **fields)
    assert says in await _wrong(board)


async def test_the_key_that_holds_now_may_end_a_round_of_a_lost_one() -> None:
    board, heir = Board(), Identity.ephemeral()
    board.void_round(7, heir)
    board.account = heir.public_key.hex()
    assert (await _told(board)).startswith("1 round, ")


async def test_nobody_is_champion_by_a_void_round() -> None:
    board = Board()
    board.void_round(1)
    board.champions = [reign("new", 0, 50.0)]
    assert board.champions[0].round == 1
    assert "Round 1 was annulled, and 'new' is champion since then" in await _wrong(board)


async def test_a_round_is_annulled_once() -> None:
    board = Board()
    board.void_round(7)
    board.void_round(7, reason="another reason")
    assert "Round 7 is annulled twice" in await _wrong(board)


async def test_a_void_round_has_no_verdict() -> None:
    board = Board()
    board.changed("new", annulment=board.void_round(1))
    assert "Round 1 is annulled, and has a verdict" in await _wrong(board)
    board.changed("new", annulment=None)
    assert "does not show the annulment" in await _wrong(board)


async def test_nothing_follows_from_a_void_round() -> None:
    board = Board()
    board.changed("new", annulment=board.void_round(1), verdict=None)
    walk = Walk()
    found = await examine(board, SIGNED, board.ids["new"], walk)
    assert "round 1 is void (a test)" in walk.checks[-1].detail and found.verdict is None and not found.grades
