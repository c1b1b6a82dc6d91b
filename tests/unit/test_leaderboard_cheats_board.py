"""Cheats by the leaderboard itself: `gridllm leaderboard verify` names each. More of them: test_leaderboard_verify.py.

And what strangers write is shown as they wrote it, less what would move the cursor of whoever looks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gridllm.charter.contest import Crown
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.cli.rank_view import rank_renderable
from gridllm_leaderboard.cli.submissions_view import submissions_renderable
from gridllm_leaderboard.results import Line
from gridllm_leaderboard.statements import Grade, Verdict, id_of, verify_document
from gridllm_leaderboard.verifying.crowned import verify_crown
from gridllm_leaderboard.verifying.examine import examine
from gridllm_leaderboard.verifying.walk import UnsoundError, Walk
from tests.unit.board_pages import rank, row, view
from tests.unit.graded_rounds import named
from tests.unit.log_heads import SIGNED
from tests.unit.test_leaderboard_views import shown
from tests.unit.verified_board import ACCOUNT, TASKS, Board, key


async def named_by_verify(board: Board) -> str:
    with pytest.raises(UnsoundError) as told:
        await examine(board, SIGNED, board.ids["new"], Walk())
    return str(told.value)


async def test_a_leaderboard_that_draws_other_items_than_the_seed_says() -> None:
    def kinder(items: dict[str, list[Line]]) -> dict[str, list[Line]]:
        return items | {"sums": [*items["sums"][:-1], TASKS["sums"].draw(b"another seed", 1)[0]]}  # one of twenty

    assert "Other items of the task 'sums' follow from the round's seed" in await named_by_verify(
        Board({"items": kinder})
    )


async def test_a_leaderboard_that_leaves_a_grade_out() -> None:
    """Out of the verdict alone, and out of what it shows, too."""
    board = Board({"verdict": lambda said: said.model_copy(update={"grades": said.grades[1:]})})
    assert "The verdict says grades" in await named_by_verify(board)
    kept = {name: board.dossiers[id_].grades for name, id_ in board.ids.items()}
    raw = board.dossiers[board.ids["new"]].verdict or b""
    verdict = verify_document(raw, Verdict, SIGNED.grid, key(ACCOUNT))

    def listed(raw: bytes) -> bool:
        return id_of(verify_document(raw, Grade, SIGNED.grid, key(ACCOUNT))) in verdict.grades

    for name, grades in kept.items():
        left = [raw for raw in board.dossiers[board.ids[name]].champion_grades if listed(raw)]
        board.changed(name, grades=[raw for raw in grades if listed(raw)], champion_grades=left)
    assert "lack grades, and there is a verdict already" in await named_by_verify(board)


async def test_a_leaderboard_that_crowns_another() -> None:
    board = Board({"verdict": lambda said: said.model_copy(update={"champion": named("a friend's")})})
    assert "The verdict says champion" in await named_by_verify(board)
    board = Board({"verdict": lambda said: said.model_copy(update={"changed": False})})
    assert "The verdict says changed" in await named_by_verify(board)


async def test_maintainers_who_crown_another_than_the_verdict_says() -> None:
    board = Board()
    found = await examine(board, SIGNED, board.ids["new"], Walk())
    assert found.verdict is not None
    fields = {"grid": SIGNED.grid, "serial": 1, "verdict": id_of(found.verdict), "issued": 1}
    true = Crown(root=found.submission.root, submission=board.ids["new"], **fields)
    assert "wears it" in verify_crown(true, found.verdict, found.submission)
    friend = true.model_copy(update={"submission": board.ids["old"], "root": named("root of old")})
    with pytest.raises(LeaderboardError, match="was crowned by a verdict whose champion is"):
        verify_crown(friend, found.verdict, found.submission)
    with pytest.raises(LeaderboardError, match="was crowned as the model"):
        verify_crown(true.model_copy(update={"root": named("else")}), found.verdict, found.submission)
    later = friend.model_copy(update={"verdict": named("a later one"), "serial": 2})
    assert "another round" in verify_crown(later, found.verdict, found.submission)
    assert "nobody" in verify_crown(None, found.verdict, found.submission)


async def test_a_leaderboard_that_shows_another_score_or_author() -> None:
    board = Board()
    id_ = board.ids["new"]
    better = msgspec.structs.replace(board.rows[id_].score, value=99.0)
    board.rows[id_] = msgspec.structs.replace(board.rows[id_], score=better)
    assert "The ranking shows" in await named_by_verify(board)
    board = Board()
    board.changed("new", view=msgspec.structs.replace(board.dossiers[id_ := board.ids["new"]].view, account=id_))
    assert "shows another account" in await named_by_verify(board)


EVIL = "[bold red]hello[/] \x1b[2J\x1b[31m \x07 \u202e gnp.exe \r over"


@pytest.mark.parametrize("where", ["ranking", "submissions"])
def test_what_strangers_write_neither_colours_nor_moves_the_cursor(where: str) -> None:
    if where == "ranking":
        renderable: Any = rank_renderable(rank(row(EVIL, 1, 50.0, account=named("x"), root=named("y"))), "garden", None)
    else:
        found = [view("m", "refused", why=EVIL, message=EVIL), view(EVIL, "failed", why=EVIL)]
        renderable = submissions_renderable(found, 2, "garden", everyone=True)
    text = shown(renderable)
    assert "[bold red]hello[/]" in text
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
