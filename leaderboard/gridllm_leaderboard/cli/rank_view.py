"""The ranking on a terminal, in JSON and in CSV: pure functions of its rows."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from gridllm.quantities import count_things, spell_credits

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gridllm_leaderboard.messages import Interval, Rank, RankRow

CROWN = "★"


def rank_renderable(rank: Rank, grid: str, task: str | None) -> Group:
    """The table, and what is to be said about it."""
    from rich.console import Group
    from rich.text import Text

    by = "" if task is None else f", by {task} alone"
    heading = Text.assemble((f"Leaderboard of {grid}", "bold"), f"  {count_things(rank.total, 'model')}{by}")
    if not rank.rows:
        return Group(heading, Text("No model has been graded yet. Be the first: gridllm leaderboard submit --help"))
    lines = []
    if any(row.champion for row in rank.rows):
        lines.append(Text(f"{CROWN} champion: gridllm generate --model @champion", style="yellow"))
    if any(number > 1 for number in Counter(row.place for row in rank.rows).values()):
        lines.append(Text("= a place that several share: noise does not tell them from the first of them", style="dim"))
    if rank.total > len(rank.rows):
        lines.append(Text(f"{len(rank.rows)} of {rank.total} are shown; the rest with --all", style="dim"))
    return Group(heading, _table(rank, task), *lines)


def _table(rank: Rank, task: str | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    from gridllm.cli.grid_view import printable
    from gridllm.cli.show import count_of

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("place", no_wrap=True, justify="right")
    for title in ("model", "author"):
        table.add_column(title, no_wrap=True)
    for title in ("params", "score ±95%"):
        table.add_column(title, no_wrap=True, justify="right")
    for name, kind in rank.tasks.items():
        style = "bold" if name == task else ""
        table.add_column(
            f"{name}, {'b/byte' if kind == 'text' else 'right'}", no_wrap=True, justify="right", style=style
        )
    table.add_column("credits/1k", no_wrap=True, justify="right")
    table.add_column("date", no_wrap=True)
    shared = Counter(row.place for row in rank.rows)
    for row in rank.rows:
        table.add_row(
            place_text(row, shared),
            Text(
                f"{printable(row.name)}{' ' + CROWN if row.champion else ''}",
                style="bold yellow" if row.champion else "",
            ),
            f"{row.account[:8]}…",
            count_of(row.parameters),
            Text.assemble(f"{row.score.value:.2f}", (f" ±{half(row.score):.2f}", "dim")),
            *(task_text(row.tasks.get(name), kind) for name, kind in rank.tasks.items()),
            spell_credits(row.cost),
            day(row.issued) + (" withdrawn" if row.state == "withdrawn" else ""),
        )
    return table


def place_text(row: RankRow, shared: Counter[int]) -> str:
    """``3``, or ``=3`` where several share it."""
    return f"={row.place}" if shared[row.place] > 1 else str(row.place)


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

    shared = Counter(row.place for row in rank.rows)
    return [msgspec.to_builtins(row) | {"tied": shared[row.place] > 1} for row in rank.rows]


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
    shared = Counter(row.place for row in rank.rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(titles)
    for row in rank.rows:
        found = [row.tasks.get(name) for name in rank.tasks]
        values = [part for one in found for part in (("", "", "") if one is None else (one.value, one.low, one.high))]
        cells: list[object] = [row.place, shared[row.place] > 1, row.champion, row.name]
        cells += [row.score.value, row.score.low, row.score.high, *values]
        cells += [row.parameters, spell_credits(row.cost).replace(",", ""), _plain(row.license)]
        cells += [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.issued)), row.round, row.state, row.serve]
        writer.writerow([*cells, row.account, row.submission, row.root])
    return out.getvalue()


def _plain(text: str) -> str:
    """Strangers' words that a spreadsheet must not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
