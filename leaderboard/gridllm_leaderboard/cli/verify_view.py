"""Checks on a terminal and in JSON: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.text import Text

    from gridllm_leaderboard.verifying.walk import Check

MARKS: Final = {"sound": ("✓", "green"), "wrong": ("✗", "bold red"), "left out": ("-", "yellow")}


def check_text(check: Check) -> Text:
    """One line: a mark, what was checked, and what came out."""
    from rich.text import Text

    from gridllm.cli.grid_view import printable

    mark, style = MARKS[check.outcome]
    left_out = "not checked: " if check.outcome == "left out" else ""
    return Text.assemble(
        (mark, style), f" {check.what}: ", (left_out + printable(check.detail), "dim" if left_out else "")
    )


def verify_json(checks: Sequence[Check], fault: str | None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "sound": fault is None,
        "fault": fault,
        "checks": [{"what": one.what, "outcome": one.outcome, "detail": one.detail} for one in checks],
    }
