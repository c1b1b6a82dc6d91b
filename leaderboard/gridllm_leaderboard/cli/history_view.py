"""Champions on a terminal and in JSON: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridllm.quantities import spell_credits
from gridllm_leaderboard.cli.history_plot import plot
from gridllm_leaderboard.cli.rank_view import CROWN, half

if TYPE_CHECKING:
    from rich.console import Group

    from gridllm_leaderboard.messages import Reign


def history_renderable(found: Sequence[Reign], grid: str, now: int, width: int) -> Group:
    """A plot, and a row for each champion, the newest first. ``width``: of the terminal, characters."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_duration, spell_time

    heading = Text.assemble((f"Champions of {grid}", "bold"), f"  {len(found)}")
    if not found:
        return Group(
            heading, Text("None yet; the first comes with the first submission: gridllm leaderboard submit --help")
        )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("since", "model", "author"):
        table.add_column(title, no_wrap=True)
    for title in ("score ±95%", "lead ±95%", "round", "reigned", "bounty"):
        table.add_column(title, no_wrap=True, justify="right")
    ends = [*(one.since for one in found[1:]), now]
    for one, end in reversed(list(zip(found, ends, strict=True))):
        reigns = one is found[-1]
        table.add_row(
            spell_time(one.since),
            Text(printable(one.name) + f" {CROWN}" * reigns, style="bold yellow" if reigns else ""),
            f"{one.account[:8]}…",
            f"{one.score.value:.2f} ±{half(one.score):.2f}",
            "-" if one.lead is None else f"{one.lead.value:+.2f} ±{half(one.lead):.2f}",
            str(one.round),
            spell_duration(max(0, end - one.since)),
            spell_credits(one.bounty),
        )
    return Group(heading, Text(), Text("\n".join(plot(found, now, width)), style="yellow"), Text(), table)


def history_json(found: Sequence[Reign]) -> list[dict[str, Any]]:
    """The same for programs, oldest first; bounties in micro-credits."""
    import msgspec

    return [msgspec.to_builtins(one) for one in found]
