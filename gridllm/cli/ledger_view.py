"""An audit on a terminal and in JSON: pure functions of its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridllm.quantities import count_credits, count_things

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gridllm.charter.document import SignedCharter
    from gridllm.ledger.audit.examine import Report
    from gridllm.ledger.audit.following import Follower


def audit_renderable(report: Report, signed: SignedCharter, fault: Exception | None) -> Group:
    """What was read, and what follows from it."""
    from rich.console import Group
    from rich.text import Text

    heading = Text.assemble((signed.charter.name, "bold"), f"  {signed.grid[:16]}…")
    lines = [Text(line) for line in _findings(report, sound=fault is None)]
    lines += [Text(line, style="yellow") for line in _silences(report)]
    if fault is None:
        lines.append(Text("The books are sound.", style="bold green"))
    return Group(heading, _logs(report, signed), *lines)


def _logs(report: Report, signed: SignedCharter) -> Table:
    from rich.table import Table

    from gridllm.node.standing import spell_time

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("keeper", no_wrap=True)
    for title in ("entries", "head", "signed", "cosigned", "read in"):
        table.add_column(title, no_wrap=True, justify="right")
    others = len(signed.charter.maintainers) - 1
    for log in report.logs.values():
        head = log.head
        table.add_row(
            f"{log.keeper[:12]}…",
            f"{log.entries:,}",
            "-" if head is None else f"{head.root[:8]}…",
            "-" if head is None else spell_time(head.issued),
            "-" if head is None else f"{len(log.cosigned)} of {others}",
            f"{log.seconds:.1f} s",
        )
    return table


def _findings(report: Report, *, sound: bool) -> Iterator[str]:
    tally = report.tally
    if tally is None:
        return
    counts = (tally.statements, "statement"), (len(tally.accounts), "account"), (len(tally.tabs), "bill")
    yield ", ".join(count_things(*count) for count in counts)
    if sound:
        yield f"all balances together: {count_credits(tally.minted)}, as grants and starters made"
        if report.asked:
            say = "keeper says" if len(report.logs) == 1 else "keepers say"
            yield f"{len(report.asked)} of {len(report.logs)} {say} the same of every account"


def _silences(report: Report) -> Iterator[str]:
    for keeper, why in report.silent.items():
        holder = report.logs[keeper].holder
        yield why + (f" Its log was read from the copy of {holder[:16]}…." if holder not in ("", keeper) else "")


def audit_json(report: Report, signed: SignedCharter, fault: Exception | None) -> dict[str, Any]:
    """The same for programs; amounts in micro-credits."""
    tally = report.tally
    return {
        "grid": signed.grid,
        "name": signed.charter.name,
        "sound": fault is None,
        "fault": None if fault is None else _fault_json(fault),
        "logs": [
            {
                "keeper": log.keeper,
                "entries": log.entries,
                "root": None if log.head is None else log.head.root,
                "issued": None if log.head is None else log.head.issued,
                "cosigned_by": sorted(log.cosigned),
                "read_from": log.holder or None,
                "seconds": round(log.seconds, 3),
            }
            for log in report.logs.values()
        ],
        "silent": report.silent,
        "agreeing": report.asked,
        "statements": 0 if tally is None else tally.statements,
        "accounts": 0 if tally is None else len(tally.accounts),
        "minted": 0 if tally is None else tally.minted,
    }


def _fault_json(fault: Exception) -> dict[str, Any]:
    evidence = getattr(fault, "evidence", b"")
    return {
        "text": str(fault),
        "keeper": getattr(fault, "keeper", "") or None,
        "log": getattr(fault, "log", "") or None,
        "entry": getattr(fault, "index", None),
        "evidence": evidence.decode("ascii") if evidence else None,
    }


def export_json(done: Follower, path: Path) -> dict[str, Any]:
    """What was written."""
    return {
        "file": str(path),
        "entries": {log.keeper: log.entries for log in done.logs.values() if log.head is not None},
        "silent": done.silent,
    }
