"""Rounds that are void, on a terminal and in JSON: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridllm.quantities import count_things

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gridllm_leaderboard.verifying.annulled import VoidRound


def annulled_lines(found: Sequence[VoidRound], width: int | None) -> list[RenderableType]:
    """A heading, and a row for each, the newest first; nothing where there is none. ``width``: of the terminal."""
    from rich.text import Text

    from gridllm.cli.columns import Column, fitting, table_of
    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_time

    if not found:
        return []
    columns = [
        Column("round", [str(one.number) for one in found], right=True),
        Column("annulled", [spell_time(one.annulment.issued) for one in found], turn=1),
        Column("after its lock", [_after(one) for one in found], turn=2, right=True),
        Column("had come to", [_stage(one) for one in found], turn=3),
        Column("why", [printable(one.annulment.reason) for one in found], least=24),
    ]
    heading = Text.assemble(("Rounds annulled", "bold"), f"  {len(found)}")
    return [Text(), heading, table_of(fitting(columns, width))]


def annulled_fact(one: VoidRound) -> str:
    """One of them in a line."""
    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_time

    return (
        f"round {one.number}, {spell_time(one.annulment.issued)}, {_after(one)} after its lock: "
        f"{printable(one.annulment.reason)}"
    )


def annulled_json(found: Sequence[VoidRound]) -> list[dict[str, Any]]:
    """The same for programs, newest first; times in Unix seconds."""
    return [
        {
            "round": one.number,
            "locked": one.lock.issued,
            "annulled": one.annulment.issued,
            "before_patience": one.early,
            "drawn": one.drawn,
            "graded": one.graded,
            "submissions": list(one.lock.submissions),
            "why": one.annulment.reason,
        }
        for one in found
    ]


def _after(one: VoidRound) -> str:
    from gridllm.node.standing import spell_duration

    return spell_duration(one.annulment.issued - one.lock.issued)


def _stage(one: VoidRound) -> str:
    if one.graded:
        return f"grades of {count_things(one.graded, 'model')}"
    return "items drawn" if one.drawn else "its lock"
