"""Tables of one submission: its tasks, its graders, its items. Pure functions of its portrait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from gridllm.quantities import count_things
from gridllm_leaderboard.cli.rank_view import day, half, task_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gridllm.cli.columns import Column
    from gridllm_leaderboard.cli.show_facts import ItemRow, Portrait, Statement

LEAST_TEXT: Final = 24  # characters of an item that are shown on the narrowest terminal


def tasks_tables(portrait: Portrait, width: int | None) -> Iterator[Table]:
    """A row for each task: its value in the ranking, then what each grader says, in as many tables as it takes."""
    from gridllm.cli.columns import GAP, table_of

    head = _ranked(portrait)
    graders = [_said(portrait, statement) for statement in portrait.statements]
    while graders:
        room = None if width is None else width - sum(column.width + GAP for column in head)
        taken = [graders.pop(0)]
        while graders and (room is None or sum(one.width + GAP for one in [*taken, graders[0]]) <= room + GAP):
            taken.append(graders.pop(0))
        yield table_of([*head, *taken])
        head = head[:1]


def graders_table(portrait: Portrait) -> Table:
    """A row for each grader: what the verdict made of its grade, and how it was made."""
    from rich.text import Text

    from gridllm.cli.columns import Column, table_of

    found = portrait.statements
    styles = ["bold red" if one.standing == "outlier" else "" for one in found]
    return table_of(
        [
            Column("grader", [_short(one) for one in found]),
            Column("its grade", [Text(one.standing, style=style) for one, style in zip(found, styles, strict=True)]),
            Column("run with", [f"{one.grade.harness}, {one.grade.dtype}, {one.grade.via}" for one in found]),
            Column("signed", [day(one.grade.issued) for one in found]),
        ]
    )


def items_table(task: str, rows: Sequence[ItemRow], limit: int, width: int | None = None) -> Group:
    """One line for each item, in the order in which they were asked. ``width``: of the terminal; None: whole lines."""
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import Column, fitting, table_of
    from gridllm.cli.grid_view import printable

    listed = rows[:limit]
    columns = [
        Column("item", [str(row.number) for row in listed], right=True),
        Column("points", [f"{row.points:.3f}" for row in listed], right=True),
        Column("asked", [printable(row.text) for row in listed], least=LEAST_TEXT),
        Column("answer", [printable(row.answer) for row in listed]),
    ]
    rest = [Text(f"{limit} of {len(rows):,} are shown; more with --limit", style="dim")] if len(rows) > limit else []
    heading = Text(f"{task}, {count_things(len(rows), 'item')}", style="bold")
    return Group(Text(), heading, table_of(fitting(columns, width)), *rest)


def _ranked(portrait: Portrait) -> list[Column]:
    from gridllm.cli.columns import Column

    kinds, tasks = _kinds(portrait), portrait.statements[0].grade.tasks
    values = []
    for task in tasks:
        kind = kinds.get(task.task, "choice")
        found = None if portrait.row is None else portrait.row.tasks.get(task.task)
        spread = "" if found is None else f" ±{half(found):.4f}" if kind == "text" else f" ±{100 * half(found):.1f}"
        values.append(task_text(found, kind) + spread)
    units = {"text": "bits/byte", "choice": "right"}
    return [
        Column("task", [f"{task.task}, {units[kinds.get(task.task, 'choice')]}" for task in tasks]),
        Column("items", [str(task.count) for task in tasks], right=True),
        Column("ranked with ±95%", values, right=True),
    ]


def _said(portrait: Portrait, statement: Statement) -> Column:
    """One grader's values, task by task."""
    from gridllm.cli.columns import Column

    kinds = _kinds(portrait)
    values = [
        f"{one.value:.4f}" if kinds.get(one.task) == "text" else f"{100 * one.value:.1f}%"
        for one in statement.grade.tasks
    ]
    return Column(_short(statement), values, right=True)


def _kinds(portrait: Portrait) -> dict[str, Literal["text", "choice"]]:
    return {} if portrait.rules is None else {task.name: task.kind for task in portrait.rules.tasks}


def _short(statement: Statement) -> str:
    return f"{statement.grade.grader[:8]}…"
