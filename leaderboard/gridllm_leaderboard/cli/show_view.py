"""One submission on a terminal and in JSON: pure functions of its portrait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridllm.quantities import spell_credits
from gridllm_leaderboard.cli.annulled_view import annulled_fact, annulled_json
from gridllm_leaderboard.cli.rank_view import CROWN, half
from gridllm_leaderboard.cli.show_tables import graders_table, tasks_tables
from gridllm_leaderboard.cli.submissions_view import next_step

if TYPE_CHECKING:
    from rich.console import Group

    from gridllm_leaderboard.cli.show_facts import ItemRow, Portrait
    from gridllm_leaderboard.messages import SubmissionView


def portrait_renderable(portrait: Portrait, width: int | None = None) -> Group:
    """Facts, the tasks with what each grader says, and who the graders are. ``width``: of the terminal."""
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.show import facts_text

    parts: list[Any] = [facts_text(_facts(portrait), width)]
    if portrait.statements:
        for table in tasks_tables(portrait, width):
            parts += [Text(), table]
        parts += [Text(), graders_table(portrait)]
    return Group(*parts)


def _use(view: SubmissionView) -> str:
    if view.state == "withdrawn":
        return "none: its author withdrew it"
    return "the grid may serve it" if view.serve else "its author keeps it: ranked, not served"


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
        "Use": _use(view),
        "Submitted": spell_time(view.issued),
        "State": view.state if view.state == "graded" else f"{view.state}: {printable(next_step(view))}",
        "Made from": [_ancestor(one.name, one.root) for one in portrait.lineage] or "its author names no model",
    }
    if row is not None:
        where = "" if row.current else f" among those graded by the tasks of rules {row.rules}, no longer in force"
        facts["Score"] = f"{row.score.value:.2f} ±{half(row.score):.2f}, place {row.place}{where}, round {row.round}"
        facts["Costs"] = f"{spell_credits(row.cost)} credits for 1,000 tokens"
    if portrait.champion is not None or portrait.duel is not None:
        facts["Duel"] = _duel(portrait)
    if portrait.annulled:
        facts["Annulled"] = [annulled_fact(one) for one in portrait.annulled]
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
        word = "too close to tell apart"
    figures = f"{duel.difference:+.2f} ({duel.low:+.2f} to {duel.high:+.2f}, 95%)"
    return f"against {portrait.champion}, on the same items: {figures}: {word}"


def _learnt(task: str, points: float) -> str:
    """The report on what was learnt by heart (contamination.py)."""
    if points <= 0:
        return f"{task}: no better on them than on sealed ones"
    return (
        f"{task}: better on them than on sealed ones, by {points:.3f} points an item at least: it learnt them by heart"
    )


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
        "annulled": annulled_json(portrait.annulled),
    }
    if items is not None:
        told["items"] = {task: [row._asdict() for row in rows] for task, rows in items.items()}
    return told
