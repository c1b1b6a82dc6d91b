"""Submissions on a terminal and in JSON, with what their authors do next: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gridllm.ledger.statements import peer_of_account
from gridllm.quantities import count_credits, spell_credits
from gridllm_leaderboard.cli.rank_view import LEAST_NAME, left_out

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import Column
    from gridllm_leaderboard.messages import SubmissionView

STYLES: Final = {"graded": "green", "failed": "red", "refused": "red", "unpaid": "yellow", "withdrawn": "dim"}
NEXT: Final = "next"  # title of a column
MEMO_DIGITS: Final = 32  # of a submission's id, in the memo of the transfer that pays for it


def submissions_renderable(
    found: Sequence[SubmissionView], total: int, grid: str, *, everyone: bool, width: int | None = None
) -> Group:
    """A row for each, newest first, and what is to be done: beside it or, where there is no room, beneath the table.

    Args:
        width: of the terminal; None: all columns.
    """
    from rich.console import Group
    from rich.text import Text

    from gridllm.cli.columns import fitting, lacking, table_of

    heading = Text.assemble((f"Submissions in {grid}", "bold"), f"  {total:,}")
    if not found:
        return Group(heading, Text("None yet. To submit a model: gridllm leaderboard submit --help"))
    columns = _columns(found, everyone=everyone)
    shown = fitting(columns, width)
    absent = lacking(columns, shown)
    lines = _steps(found) if NEXT in absent else []
    if absent := [title for title in absent if title != NEXT]:
        lines.append(left_out(absent))
    if total > len(found):
        lines.append(Text(f"{len(found):,} of {total:,} are shown; more with --limit", style="dim"))
    return Group(heading, table_of(shown), *lines)


def _columns(found: Sequence[SubmissionView], *, everyone: bool) -> list[Column]:
    from rich.text import Text

    from gridllm.cli.columns import Column
    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_time

    states = [Text(one.state + (" ★" if one.champion else ""), style=STYLES.get(one.state, "")) for one in found]
    return [
        Column("id", [one.id[:12] for one in found]),
        Column("model", [printable(one.name) for one in found], least=LEAST_NAME),
        *([Column("author", [f"{one.account[:8]}…" for one in found], turn=1)] if everyone else []),
        Column("state", states),
        Column("submitted", [spell_time(one.issued) for one in found], turn=2),
        Column(NEXT, [printable(next_step(one)) for one in found], turn=3),
    ]


def _steps(found: Sequence[SubmissionView]) -> list[Text]:
    """What is next, a line for each that is on its way: a terminal breaks it, and a command in it stays whole."""
    from rich.text import Text

    from gridllm.cli.grid_view import printable

    open_ = [one for one in found if one.state not in ("graded", "withdrawn")]
    lines = [Text.assemble((f"{one.id[:12]}  ", "bold"), printable(next_step(one))) for one in open_]
    return [*lines, Text("All of one: gridllm leaderboard show ID", style="dim")]


def next_step(one: SubmissionView) -> str:
    """What its author does next, or what it waits for."""
    match one.state:
        case "uploading":
            step = "run the same gridllm leaderboard submit again: it resumes where it was"
        case "checking":
            step = "its files are being checked"
        case "unpaid":
            step = f"pay the fee of {count_credits(one.fee)}: {pay_command(one)}"
        case "queued":
            waits = one.why.startswith("It waits ")  # for a grader that is able to grade it, perhaps
            step = one.why.removeprefix("It ").rstrip(".") if waits else "waits for the next round"
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
    annulled = one.state == "queued" and one.why.startswith("Round ")  # the one that it was in
    told = one.why and (annulled or one.state in ("failed", "refused"))
    return f"{one.why.rstrip('.')}; {step}" if told else step


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
