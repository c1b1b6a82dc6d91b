"""Champions on a terminal and in JSON: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gridllm.quantities import spell_credits
from gridllm_leaderboard.cli.annulled_view import annulled_json, annulled_lines
from gridllm_leaderboard.cli.history_plot import plot
from gridllm_leaderboard.cli.rank_view import CROWN, LEAST_NAME, half, left_out

if TYPE_CHECKING:
    from rich.console import Group

    from gridllm.cli.columns import Column
    from gridllm_leaderboard.messages import Reign
    from gridllm_leaderboard.verifying.annulled import VoidRound

MOST_PLOT: Final = 100  # characters that the plot takes


def history_renderable(
    found: Sequence[Reign],
    grid: str,
    now: int,
    width: int | None = None,
    *,
    wide: bool = False,
    void: Sequence[VoidRound] = (),
) -> Group:
    """A plot, and a row for each champion, the newest first; then the rounds that came to nothing.

    Args:
        width: of the terminal, in characters; None: there is none.
        wide: all columns, though it has no room for them.
    """
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import fitting, lacking, table_of

    heading = Text.assemble((f"Champions of {grid}", "bold"), f"  {len(found)}")
    below = annulled_lines(void, None if wide else width)
    if not found:
        none = Text("None yet; the first comes with the first submission: gridllm leaderboard submit --help")
        return Group(heading, none, *below)
    columns = _columns(found, now)
    shown = fitting(columns, None if wide else width)
    absent = lacking(columns, shown)
    drawn = Text("\n".join(plot(found, now, min(width or MOST_PLOT, MOST_PLOT))), style="yellow")
    return Group(heading, Text(), drawn, Text(), table_of(shown), *([left_out(absent)] if absent else []), *below)


def _columns(found: Sequence[Reign], now: int) -> list[Column]:
    """The newest reign on top."""
    from rich.text import Text

    from gridllm.cli.columns import Column
    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_duration, spell_time

    ends = [*(one.since for one in found[1:]), now]
    lasted = [spell_duration(max(0, end - one.since)) for one, end in zip(found, ends, strict=True)]
    newest = found[::-1]
    names = [Text(printable(one.name)) for one in newest]
    names[0] = Text(f"{names[0]} {CROWN}", style="bold yellow")
    leads = ["-" if one.lead is None else f"{one.lead.value:+.2f} ±{half(one.lead):.2f}" for one in newest]
    scores = [f"{one.score.value:.2f} ±{half(one.score):.2f}" for one in newest]
    return [
        Column("since", [spell_time(one.since) for one in newest], turn=1),
        Column("model", names, least=LEAST_NAME),
        Column("author", [f"{one.account[:8]}…" for one in newest], turn=5),
        Column("score ±95%", scores, right=True),
        Column("lead ±95%", leads, right=True),
        Column("round", [str(one.round) for one in newest], turn=4, right=True),
        Column("reigned", lasted[::-1], turn=2, right=True),
        Column("bounty", [spell_credits(one.bounty) for one in newest], turn=3, right=True),
    ]


def history_json(found: Sequence[Reign], void: Sequence[VoidRound]) -> dict[str, Any]:
    """The same for programs: champions, oldest first, bounties in micro-credits; rounds annulled, newest first."""
    import msgspec

    return {"reigns": [msgspec.to_builtins(one) for one in found], "annulled": annulled_json(void)}
