"""One submission on a terminal and in JSON: pure functions of its portrait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridllm.quantities import count_things, spell_credits
from gridllm_leaderboard.cli.rank_view import CROWN, day, half, task_text
from gridllm_leaderboard.cli.submissions_view import next_step

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gridllm_leaderboard.cli.show_facts import ItemRow, Portrait


def portrait_renderable(portrait: Portrait) -> Group:
    """Facts, then the tasks with what each grader says."""
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.show import facts_text

    parts: list[Any] = [facts_text(_facts(portrait))]
    if portrait.statements:
        parts += [Text(), _tasks(portrait)]
    return Group(*parts)


def _facts(portrait: Portrait) -> dict[str, str | list[str]]:
    from gridllm.cli.grid_view import printable
    from gridllm.cli.show import count_of
    from gridllm.ledger.statements import peer_of_account
    from gridllm.node.standing import spell_time

    view, row = portrait.view, portrait.row
    facts: dict[str, str | list[str]] = {
        "Model": printable(view.name) + (f" {CROWN} champion" if view.champion else ""),
        "Submission": view.id,
        "Author": [view.account, f"peer {peer_of_account(view.account)}"],
        "Root": view.root,
        "Size": f"{count_of(view.parameters)} parameters, {view.size / 1e6:,.1f} MB",
        "License": printable(view.license),
        "Message": printable(view.message) or "-",
        "Use": "the grid may serve it" if view.serve else "its author keeps it: ranked, not served",
        "Submitted": spell_time(view.issued),
        "State": f"{view.state}: {printable(next_step(view))}",
        "Made from": [_ancestor(one.name, one.root) for one in portrait.lineage] or "nothing that it names",
    }
    if row is not None:
        facts["Score"] = f"{row.score.value:.2f} ±{half(row.score):.2f}, place {row.place}, round {row.round}"
        facts["Costs"] = f"{spell_credits(row.cost)} credits for 1,000 tokens"
    if portrait.champion is not None or portrait.duel is not None:
        facts["Duel"] = _duel(portrait)
    if portrait.overlaps:
        facts["Public items"] = [_learnt(task, points) for task, points in sorted(portrait.overlaps.items())]
    if portrait.failures:
        facts["Failed"] = [f"{one.grader[:16]}…: {printable(one.reason)}" for one in portrait.failures]
    return facts


def _ancestor(name: str | None, root: str) -> str:
    from gridllm.cli.grid_view import printable

    return f"{printable(name)}, root {root[:16]}…" if name else f"root {root[:16]}…, which this grid does not know"


def _duel(portrait: Portrait) -> str:
    """How it stood against the champion of its round, on the same items."""
    duel = portrait.duel
    if duel is None:
        return f"against {portrait.champion}: not judged yet" if portrait.verdict is None else "not compared"
    if duel.low > 0:
        word = "better"
    elif duel.high < 0:
        word = "worse"
    else:
        word = "not to be told apart"
    figures = f"{duel.difference:+.2f} ({duel.low:+.2f} to {duel.high:+.2f}, 95%)"
    return f"against {portrait.champion}, on the same items: {figures}: {word}"


def _learnt(task: str, points: float) -> str:
    """The report on what was learnt by heart (contamination.py)."""
    if points <= 0:
        return f"{task}: no better on them than on sealed ones"
    return (
        f"{task}: better on them than on sealed ones, by {points:.3f} points an item at least: it learnt them by heart"
    )


def _tasks(portrait: Portrait) -> Table:
    """A row for each task, a column for each grader; the ranking's value first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task", no_wrap=True)
    table.add_column("items", no_wrap=True, justify="right")
    table.add_column("ranked with ±95%", no_wrap=True, justify="right")
    for one in portrait.statements:
        table.add_column(f"{one.grade.grader[:8]}…", no_wrap=True, justify="right")
    kinds = {} if portrait.rules is None else {task.name: task.kind for task in portrait.rules.tasks}
    for at, task in enumerate(portrait.statements[0].grade.tasks):
        kind = kinds.get(task.task, "choice")
        found = None if portrait.row is None else portrait.row.tasks.get(task.task)
        spread = "" if found is None else f" ±{half(found):.4f}" if kind == "text" else f" ±{100 * half(found):.1f}"
        said = [one.grade.tasks[at] for one in portrait.statements]
        values = [f"{one.value:.4f}" if kind == "text" else f"{100 * one.value:.1f}%" for one in said]
        unit = "bits/byte" if kind == "text" else "right"
        table.add_row(f"{task.task}, {unit}", str(task.count), task_text(found, kind) + spread, *values)
    grades = [one.grade for one in portrait.statements]
    styles = ["bold red" if one.standing == "outlier" else "dim" for one in portrait.statements]
    standings = zip(portrait.statements, styles, strict=True)
    table.add_row("", "", "", *(Text(one.standing, style=style) for one, style in standings))
    table.add_row("", "", "", *(Text(f"{one.harness}, {one.dtype}, {one.via}", style="dim") for one in grades))
    table.add_row("", "", "", *(Text(day(one.issued), style="dim") for one in grades))
    return table


def items_table(task: str, rows: Sequence[ItemRow], limit: int) -> Group:
    """One line for each item, in the order in which they were asked."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from gridllm.cli.grid_view import printable

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("item", no_wrap=True, justify="right")
    table.add_column("points", no_wrap=True, justify="right")
    table.add_column("asked", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    for row in rows[:limit]:
        table.add_row(str(row.number), f"{row.points:.3f}", Text(printable(row.text)), Text(printable(row.answer)))
    rest = [Text(f"{limit} of {len(rows):,} are shown; more with --limit", style="dim")] if len(rows) > limit else []
    return Group(Text(), Text(f"{task}, {count_things(len(rows), 'item')}", style="bold"), table, *rest)


def portrait_json(portrait: Portrait, items: Mapping[str, Sequence[ItemRow]] | None) -> dict[str, Any]:
    """The same for programs. ``items``: None where nobody asked for them."""
    import msgspec

    told: dict[str, Any] = {
        "submission": msgspec.to_builtins(portrait.view),
        "rank": None if portrait.row is None else msgspec.to_builtins(portrait.row),
        "lineage": [{"root": one.root, "name": one.name} for one in portrait.lineage],
        "rules": None if portrait.rules is None else portrait.rules.model_dump(mode="json"),
        "round": None if portrait.lock is None else portrait.lock.round,
        "champion_met": portrait.champion,
        "duel": None if portrait.duel is None else portrait.duel.model_dump(mode="json"),
        "grades": [one.grade.model_dump(mode="json") | {"standing": one.standing} for one in portrait.statements],
        "failures": [one.model_dump(mode="json") for one in portrait.failures],
        "overlaps": dict(portrait.overlaps),
        "withdrawn": portrait.withdrawn,
    }
    if items is not None:
        told["items"] = {task: [row._asdict() for row in rows] for task, rows in items.items()}
    return told
