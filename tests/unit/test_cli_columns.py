"""What a terminal has room for."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gridllm.cli.columns import Column, fitting, lacking, wrapped
from gridllm.cli.history_view import Line, history_table
from gridllm.cli.show import facts_text

COLUMNS = [
    Column("name", ["x" * 10, "y"], least=4),
    Column("b", ["123456"], turn=2),
    Column("a\nunit", ["12345678"], turn=1),
    Column("score", ["50.00"]),
    Column("c", ["1"], turn=3),
]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (None, ["name", "b", "a\nunit", "score", "c"]),
        (38, ["name", "b", "a\nunit", "score", "c"]),
        (37, ["name", "b", "a\nunit", "score"]),
        (34, ["name", "a\nunit", "score", "c"]),  # b has no room, and c has what is left
        (20, ["name", "score", "c"]),
        (17, ["name", "score"]),
        (5, ["name", "score"]),
    ],
)
def test_columns_come_in_their_turn_while_there_is_room(width: int | None, titles: list[str]) -> None:
    shown = fitting(COLUMNS, width)
    assert [column.title for column in shown] == titles
    assert sum(column.width + 2 for column in shown) - 2 <= (99 if width is None else max(width, 11))
    assert [title.split(",")[0] for title in lacking(COLUMNS, shown)] == [
        column.title.split("\n")[0] for column in COLUMNS if column.title not in titles
    ]


def test_only_names_are_cut() -> None:
    name, score = fitting([Column("name", ["x" * 30], least=4), Column("score", ["50.00"])], 20)
    assert str(name.cells[0]) == "x" * 12 + "…" and score.cells == ["50.00"]


def test_words_are_wrapped_and_commands_are_not() -> None:
    assert list(wrapped("one two three four five six", 12)) == ["one two three four", "five six"]  # 20 at least
    assert list(wrapped("pay it: gridllm credit send 12D3Koo 0.5 --memo x", 24)) == [
        "pay it:",
        "gridllm credit send 12D3Koo 0.5 --memo x",
    ]
    assert list(wrapped("a" * 64 + " b", 24)) == ["a" * 64, "b"]
    assert list(wrapped("", 24)) == [""]


def test_facts_are_wrapped_beside_their_names() -> None:
    facts: dict[str, str | list[str]] = {"Size": "12 MB", "Duel": ["better by +12.20 (+6.10 to +18.30, 95%)", "again"]}
    assert str(facts_text(facts, 30)).splitlines() == [
        "Size  12 MB",
        "Duel  better by +12.20 (+6.10",
        "      to +18.30, 95%)",
        "      again",
    ]
    assert str(facts_text(facts)).splitlines()[1] == "Duel  better by +12.20 (+6.10 to +18.30, 95%)"


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_a_credit_history_breaks_no_amount(width: int | None) -> None:
    memo = "for the weekend, and for much more that somebody wanted to say about it"
    lines = [
        Line(1_790_000_000, "served", "a" * 64, 1_234_567, tokens=123_456, model="m", blocks=(4, 12)),
        Line(1_790_000_000, "received", "b" * 64, 123_456_789, text=memo),
    ]
    console = Console(width=400, file=io.StringIO(), soft_wrap=True)
    console.print(history_table(lines, {"m": "demo"}, width), crop=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(text.splitlines()) == 3 and "+123.456789" in text and "2026-09-21 14:13 UTC" in text
    assert all(len(line.rstrip()) <= (width or 400) for line in text.splitlines())
    assert (memo in text) == (width is None) and ("aaaaaaaaaaaa…" in text) == (width in (120, None))
