"""``show``: what is put together of one submission."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.cli.show_facts import Ancestor, Portrait, item_rows, lineage, portrait_of
from gridllm_leaderboard.cli.show_tables import items_table, tasks_tables
from gridllm_leaderboard.cli.show_view import portrait_json, portrait_renderable
from gridllm_leaderboard.results import read_items, read_results
from gridllm_leaderboard.statements import Failure, id_of, sign
from gridllm_leaderboard.verifying.annulled import verify_annulled
from tests.unit.graded_rounds import named, with_points
from tests.unit.log_heads import NOW, SIGNED
from tests.unit.test_leaderboard_views import shown
from tests.unit.verified_board import GRADERS, Board, key


def test_rounds_that_were_annulled_are_named() -> None:
    board = Board()
    board.void_round(7, reason="its \x1bkeeper is lost")
    board.void_round(8, issued=NOW + 1 + 3600)
    portrait = _portrait(board)
    text = " ".join(shown(portrait_renderable(portrait)).split())
    assert (
        "after its lock: its ?keeper is lost" in text.replace("\ufffd", "?")
        and "round 8" in text
        and "1 h after" in text
    )
    assert [one["round"] for one in portrait_json(portrait, None)["annulled"]] == [7, 8]
    assert "Annulled" not in shown(portrait_renderable(_portrait(board, "old")))


def _portrait(board: Board, name: str = "new", **changes: Any) -> Portrait:
    board.changed(name, **changes)
    id_ = board.ids[name]
    ancestors = [Ancestor(named("base"), "demo"), Ancestor(named("older"), None)]
    names = {id_: name for name, id_ in board.ids.items()}
    void = verify_annulled(board.void, (), SIGNED, board.account)
    return portrait_of(board.dossiers[id_], SIGNED, board.rows.get(id_), ancestors, names, void)


def test_a_champions_portrait() -> None:
    text = shown(portrait_renderable(_portrait(Board(), overlaps={"sums": 0.5, "stories": 0.0})))
    lines = " ".join(text.split())
    assert "Model new ★ champion" in lines and "place 1, round 1" in lines
    board = Board()
    board.rows[board.ids["new"]] = msgspec.structs.replace(board.rows[board.ids["new"]], rules=1, current=False)
    older = " ".join(shown(portrait_renderable(_portrait(board))).split())
    assert "place 1 among those graded by the tasks of rules 1, no longer in force, round 1" in older
    assert "demo, root" in lines and "which this grid does not know" in lines
    assert "against old, on the same items: +" in lines and lines.count("counts") == 3 and ": better" in lines
    assert "by 0.500 points an item at least: it learnt them by heart" in lines
    assert "stories: no better on them" in lines
    assert "stories, bits/byte 20 " in lines and "sums, right 20 " in lines


def test_nothing_is_promised_of_a_withdrawn_model() -> None:
    portrait = _portrait(Board())
    assert "the grid may serve it" in shown(portrait_renderable(portrait))
    taken = replace(portrait, view=msgspec.structs.replace(portrait.view, state="withdrawn"))
    text = shown(portrait_renderable(taken))
    assert "none: its author withdrew it" in text and "may serve" not in text


@pytest.mark.parametrize("width", [40, 60, 80])
def test_what_graders_say_takes_as_many_tables_as_the_terminal_asks_for(width: int) -> None:
    portrait = _portrait(Board())
    tables = [shown(table) for table in tasks_tables(portrait, width)]
    assert len(tables) == (1 if width == 80 else 2)
    assert sum(table.count("…") for table in tables) == 3 and all("sums, right" in table for table in tables)
    assert len(list(tasks_tables(portrait, None))) == 1
    if width > 40:
        assert all(len(line.rstrip()) <= width for table in tables for line in table.splitlines())


def test_a_liar_is_shown_as_an_outlier() -> None:
    def lied(results: Any) -> Any:
        return results | {"sums": [with_points(one, 0.0) for one in results["sums"]]}

    portrait = _portrait(Board({"results of new": lied}))
    assert sorted(one.standing for one in portrait.statements) == ["counts", "counts", "outlier"]
    assert "outlier" in shown(portrait_renderable(portrait))


def test_what_is_on_its_way_has_no_grades_yet() -> None:
    portrait = _portrait(Board(), verdict=None)
    assert {one.standing for one in portrait.statements} == {"not judged yet"}
    assert "against old: not judged yet" in shown(portrait_renderable(portrait))
    bare = _portrait(Board(), verdict=None, draw=None, lock=None, rules=None, grades=[])
    text = shown(portrait_renderable(bare))
    assert "Duel" not in text and bare.statements == []


def test_what_could_not_be_run_says_why() -> None:
    board = Board()
    draw = _portrait(board).draw
    assert draw is not None
    said = Failure(
        grid=SIGNED.grid, round=1, draw=id_of(draw), submission=board.ids["new"], grader=key(GRADERS[0]),
        reason="it takes 80 GB", issued=NOW,
    )  # fmt: skip
    portrait = _portrait(board, failures=[sign(said, GRADERS[0])])
    assert "it takes 80 GB" in shown(portrait_renderable(portrait))
    with pytest.raises(LeaderboardError, match="forged"):
        _portrait(board, failures=[sign(said, GRADERS[1])])


def test_a_forged_document_is_not_shown() -> None:
    board = Board()
    with pytest.raises(LeaderboardError, match="forged|cannot be used"):
        _portrait(board, verdict=board.dossiers[board.ids["new"]].lock)


def test_a_lineage_ends_somewhere() -> None:
    names = {"a": "A", "b": "B"}
    assert lineage(None, names, {}) == []
    assert lineage("a", names, {"a": "b", "b": "c"}) == [("a", "A"), ("b", "B"), ("c", None)]
    assert lineage("a", names, {"a": "b", "b": "a"}) == [("a", "A"), ("b", "B")]
    assert len(lineage("0", {}, {str(number): str(number + 1) for number in range(99)})) == 32


def test_items_are_listed_with_answers() -> None:
    board = Board()
    portrait = _portrait(board)
    assert portrait.draw is not None
    listed = {}
    for drawn in portrait.draw.items:
        roots = [line.results for one in portrait.statements for line in one.grade.tasks if line.task == drawn.task]
        found = [read_results(board.lists[root]) for root in roots]
        listed[drawn.task] = item_rows(read_items(board.lists[drawn.root]), found)
    text = shown(items_table("sums", listed["sums"], 5))
    assert "sums, 20 items" in text and "5 of 20 are shown" in text
    assert any("(right: " in row.answer for row in listed["sums"] if row.points == 0.0)
    assert all("bits/byte" in row.answer and len(row.text) <= 60 for row in listed["stories"])
    told = json.loads(json.dumps(portrait_json(portrait, listed)))
    assert len(told["items"]["sums"]) == 20 and told["duel"]["low"] > 0 and told["champion_met"] == "old"
    assert "items" not in portrait_json(portrait, None)
    assert item_rows([{"text": "x"}], [])[0].answer == ""
