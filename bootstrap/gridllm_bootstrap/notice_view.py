"""Notices and minimums in lines for people."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from gridllm.charter.document import Charter
from gridllm.charter.minimums import Admission
from gridllm.charter.notices import Amendment, Revocation
from gridllm.cli.minimums_view import admission_lines
from gridllm_bootstrap.minimums import rows


def notice_facts(content: Charter | Revocation | Amendment, charter: Charter) -> dict[str, str | list[str]]:
    """What a notice says."""
    if isinstance(content, Revocation):
        return {
            "Revocation": content.peer,
            "Grid": charter.name,
            "Why": content.why,
            "Issued": _moment(content.issued),
            "No new certificate": f"before {_moment(content.until)}",
        }
    if isinstance(content, Amendment):
        return {
            "Amendment": f"number {content.serial}",
            "Grid": charter.name,
            "Issued": _moment(content.issued),
            "Admission": admission_lines(content.admission),
        }
    return {"Charter": content.name}


def minimums_table(admission: Admission) -> Text:
    """Role, figure, value and what it means. A Text: a table would fold lines at the terminal's edge."""
    lines = [("role", "figure", "at least", "what it is"), *(row.cells for row in rows(admission))]
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(3)]
    text = Text(f"Admission is {admission_lines(admission)[0]}\n")
    if not admission.required:
        return Text(text.plain.rstrip())
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        text.append("".join(cells) + line[3] + "\n", style="bold" if number == 0 else "")
    text.rstrip()
    return text


def _moment(unix_s: int) -> str:
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s after 1970"
