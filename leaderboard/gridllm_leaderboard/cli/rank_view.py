"""The ranking on a terminal, in JSON and in CSV: pure functions of its rows."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from gridllm.quantities import count_things, spell_credits

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import Column
    from gridllm_leaderboard.messages import Interval, Rank, RankRow

CROWN: Final = "★"
LEAST_NAME: Final = 16  # characters of a model's name that are shown on the narrowest terminal


def rank_renderable(rank: Rank, grid: str, task: str | None, width: int | None = None) -> Group:
    """The table, and what is to be said about it. ``width``: of the terminal; None: all columns."""
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import fitting, lacking, table_of

    by = "" if task is None else f", by {task} alone"
    heading = Text.assemble((f"Leaderboard of {grid}", "bold"), f"  {count_things(rank.total, 'model')}{by}")
    if not rank.rows:
        none = "by these tasks yet" if rank.older else "yet. Be the first: gridllm leaderboard submit --help"
        return Group(heading, Text(f"No model has been graded {none}"), *_older(rank))
    columns = _columns(rank, task)
    shown = fitting(columns, width)
    lines = []
    if any(row.champion for row in rank.rows):
        lines.append(Text(f"{CROWN} champion: gridllm generate --model @champion", style="yellow"))
    if any(number > 1 for number in _shared(rank.rows).values()):
        lines.append(Text("= a shared place: the difference between these models may be noise", style="dim"))
    if rank.total > len(rank.rows):
        lines.append(Text(f"{len(rank.rows)} of {rank.total} are shown; the rest with --all", style="dim"))
    lines += _older(rank)
    if absent := lacking(columns, shown):
        lines.append(left_out(absent))
    return Group(heading, table_of(shown), *lines)


def _older(rank: Rank) -> list[Text]:
    """What is to be said of models that were graded before the tasks changed."""
    from rich.text import Text

    if any(not row.current for row in rank.rows):
        return [Text("rules: from before the tasks changed; these models are ranked among themselves", style="dim")]
    if not rank.older:
        return []
    said = f"{count_things(rank.older, 'model')} graded by earlier tasks, ranked apart: --all", "Yours, graded again:"
    return [Text(said[0], style="dim"), Text(f"{said[1]} gridllm leaderboard regrade NAME", style="dim")]


def left_out(titles: Sequence[str]) -> Text:
    """A line that tells how to see the columns for which there was no room."""
    from rich.text import Text

    return Text(f"No room here for: {'; '.join(titles)}. To see them: --wide", style="dim")


def _columns(rank: Rank, task: str | None) -> list[Column]:
    from rich.text import Text

    from gridllm.cli.columns import Column
    from gridllm.cli.grid_view import printable
    from gridllm.cli.show import count_of

    rows, shared = rank.rows, _shared(rank.rows)
    rules = [] if all(row.current for row in rows) else ["" if row.current else str(row.rules) for row in rows]
    names = [Text(printable(row.name) + _mark(row), style="bold yellow" if row.champion else "") for row in rows]
    scores = [Text.assemble(f"{row.score.value:.2f}", (f" ±{half(row.score):.2f}", "dim")) for row in rows]
    tasks = [
        Column(
            f"{name}\n{'b/byte' if kind == 'text' else 'right'}",
            [task_text(row.tasks.get(name), kind) for row in rows],
            turn=0 if name == task else 2,
            right=True,
            style="bold" if name == task else "",
        )
        for name, kind in rank.tasks.items()
    ]
    return [
        *([Column("rules", rules, right=True)] if rules else []),
        Column("place", [place_text(row, shared) for row in rows], right=True),
        Column("model", names, least=LEAST_NAME),
        Column("author", [f"{row.account[:8]}…" for row in rows], turn=5),
        Column("params", [count_of(row.parameters) for row in rows], turn=1, right=True),
        Column("score ±95%", scores, right=True),
        *tasks,
        Column("credits/1k", [spell_credits(row.cost) for row in rows], turn=3, right=True),
        Column("date", [day(row.issued) for row in rows], turn=4),
    ]


def _mark(row: RankRow) -> str:
    return f" {CROWN}" if row.champion else " (withdrawn)" if row.state == "withdrawn" else ""


def _shared(rows: Sequence[RankRow]) -> Counter[tuple[int, int]]:
    """How many have each place, among those of one yardstick."""
    return Counter((row.rules, row.place) for row in rows)


def place_text(row: RankRow, shared: Counter[tuple[int, int]]) -> str:
    """``3``, or ``=3`` where several share it."""
    return f"={row.place}" if shared[row.rules, row.place] > 1 else str(row.place)


def task_text(found: Interval | None, kind: Literal["text", "choice"]) -> str:
    """A task's value for people; a dash where the model was graded under other rules."""
    if found is None:
        return "-"
    return f"{found.value:.4f}" if kind == "text" else f"{100 * found.value:.1f}%"


def half(found: Interval) -> float:
    """Half the interval's width."""
    return (found.high - found.low) / 2


def day(unix_s: int) -> str:
    """Unix time → ``2026-11-21``."""
    return time.strftime("%Y-%m-%d", time.gmtime(unix_s))


def rank_json(rank: Rank) -> list[dict[str, Any]]:
    """The same for programs; costs in micro-credits for 1,000 tokens."""
    import msgspec

    shared = _shared(rank.rows)
    return [msgspec.to_builtins(row) | {"tied": shared[row.rules, row.place] > 1} for row in rank.rows]


def rank_csv(rank: Rank) -> str:
    """The same for spreadsheets; costs in credits for 1,000 tokens, times in UTC."""
    tasks = [f"{name}{end}" for name in rank.tasks for end in ("", "_low", "_high")]
    titles = [
        "place",
        "tied",
        "champion",
        "name",
        "score",
        "low",
        "high",
        *tasks,
        "parameters",
        "credits_per_1000_tokens",
    ]
    titles += ["license", "issued", "round", "state", "serve", "account", "submission", "root"]
    titles += ["rules", "current"]
    shared = _shared(rank.rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(titles)
    for row in rank.rows:
        found = [row.tasks.get(name) for name in rank.tasks]
        values = [part for one in found for part in (("", "", "") if one is None else (one.value, one.low, one.high))]
        cells: list[object] = [row.place, shared[row.rules, row.place] > 1, row.champion, row.name]
        cells += [row.score.value, row.score.low, row.score.high, *values]
        cells += [row.parameters, spell_credits(row.cost).replace(",", ""), _plain(row.license)]
        cells += [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.issued)), row.round, row.state, row.serve]
        writer.writerow([*cells, row.account, row.submission, row.root, row.rules, row.current])
    return out.getvalue()


def _plain(text: str) -> str:
    """Strangers' words that a spreadsheet must not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
