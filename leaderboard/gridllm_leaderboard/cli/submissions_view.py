"""Submissions on a terminal and in JSON, with what their authors do next: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gridllm.ledger.statements import peer_of_account
from gridllm.quantities import count_credits, spell_credits

if TYPE_CHECKING:
    from rich.console import Group

    from gridllm_leaderboard.messages import SubmissionView

STYLES: Final = {"graded": "green", "failed": "red", "refused": "red", "unpaid": "yellow", "withdrawn": "dim"}
MEMO_DIGITS: Final = 32  # of a submission's id, in the memo of the transfer that pays for it


def submissions_renderable(found: Sequence[SubmissionView], total: int, grid: str, *, everyone: bool) -> Group:
    """A row for each, newest first, and under it what is to be done."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_time

    heading = Text.assemble((f"Submissions in {grid}", "bold"), f"  {total:,}")
    if not found:
        return Group(heading, Text("None yet. To submit a model: gridllm leaderboard submit --help"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("id", "model", *(["author"] if everyone else []), "state", "submitted", "next"):
        table.add_column(title, no_wrap=True)  # a command that is broken over two lines cannot be copied
    for one in found:
        state = Text(one.state + (" ★" if one.champion else ""), style=STYLES.get(one.state, ""))
        author = [f"{one.account[:8]}…"] if everyone else []
        name, step = Text(printable(one.name)), Text(printable(next_step(one)))
        table.add_row(one.id[:12], name, *author, state, spell_time(one.issued), step)
    rest = (
        [Text(f"{len(found):,} of {total:,} are shown; more with --limit", style="dim")] if total > len(found) else []
    )
    return Group(heading, table, *rest)


def next_step(one: SubmissionView) -> str:
    """What its author does next, or what it waits for."""
    match one.state:
        case "uploading":
            step = "run the same gridllm leaderboard submit again: it goes on where it was"
        case "checking":
            step = "its files are being looked at"
        case "unpaid":
            step = f"pay the fee of {count_credits(one.fee)}: {pay_command(one)}"
        case "queued":
            step = "waits for the next round"
        case "locked":
            step = f"is graded in round {one.round}"
        case "graded":
            step = f"gridllm leaderboard show {one.id[:12]}"
        case "failed":
            step = "no grader could run it"
        case "refused":
            step = "mend it and submit it again"
        case "withdrawn":
            step = "taken down"
    return f"{one.why.rstrip('.')}: {step}" if one.why and one.state in ("failed", "refused") else step


def pay_command(one: SubmissionView) -> str:
    """What pays the fee, for those whose ``submit`` did not."""
    return (
        f"gridllm credit send {peer_of_account(one.pay_to)} {spell_credits(one.fee).replace(',', '')} "
        f'--memo "leaderboard {one.id[:MEMO_DIGITS]}"'
    )


def submissions_json(found: Sequence[SubmissionView]) -> list[dict[str, Any]]:
    """The same for programs; fees in micro-credits."""
    import msgspec

    return [msgspec.to_builtins(one) | {"next": next_step(one)} for one in found]
