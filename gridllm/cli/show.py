"""How commands print: to a terminal through rich, to programs as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from gridllm.charter.document import SignedCharter
    from gridllm.charter.minimums import Admission

WIDE: Final = 2000  # columns that a table may take: a terminal breaks the line, and nothing of an id is lost


def stdout() -> Console:
    """A console that never breaks an id or address over two lines, so that both can be copied."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


def stderr() -> Console:
    """For progress and remarks, which must not mix with output that is read by programs."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout; on one line when a program reads it."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_whole(renderable: RenderableType) -> None:
    """Print a table as wide as what stands in it: what a terminal has room for was chosen before (cli.columns)."""
    console = stdout()
    console.width = max(console.width, WIDE)
    console.print(renderable, crop=False)


def room() -> int | None:
    """Columns of the terminal that stdout is; None where it is none: what programs read is never cut."""
    console = stdout()
    return console.width if console.is_terminal else None


def facts_text(facts: Mapping[str, str | list[str]], width: int | None = None) -> Text:
    """Names on the left, values on the right; a list takes one line for each entry.

    A Text and no Table: a table folds long ids at the terminal's edge, and what a stranger wrote into a charter must
    not be read as rich's markup.

    Args:
        width: of the terminal; longer values are broken between words. None: one line for each entry, however long.
    """
    from rich.text import Text

    from gridllm.cli.columns import wrapped

    margin = max(map(len, facts)) + 2
    text = Text()
    for name, value in facts.items():
        entries = [value] if isinstance(value, str) else value
        lines = entries if width is None else [part for entry in entries for part in wrapped(entry, width - margin)]
        for position, line in enumerate(lines):
            text.append((name if position == 0 else "").ljust(margin), style="bold")
            text.append(f"{line}\n")
    text.rstrip()
    return text


def count_of(number: int) -> str:
    """A large number for people: 8.4 M, 1.2 B."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def charter_facts(signed: SignedCharter, admission: Admission | None = None) -> dict[str, str | list[str]]:
    """What a grid is, in lines for people; ``admission``: as amended since."""
    from gridllm.cli.economy_view import economy_lines
    from gridllm.cli.minimums_view import admission_lines

    charter = signed.charter
    return {
        "Grid": charter.name,
        "Id": signed.grid,
        "Founded": charter.created,
        "Maintainers": [f"{charter.threshold} of {len(charter.maintainers)} must sign:", *charter.maintainers],
        "Models": [
            f"{entry.name}: {entry.blocks} blocks, {count_of(entry.parameters)} parameters, {entry.dtype}, "
            f"from {entry.source}, root {entry.root[:16]}…"
            for entry in charter.models
        ],
        "First peers": list(charter.first_peers) or ["none named"],
        "Admission": admission_lines(admission or charter.admission),
        "Credit": economy_lines(charter),
    }


def charter_json(signed: SignedCharter) -> dict[str, Any]:
    """What a grid is, for programs."""
    return {"grid": signed.grid, **signed.charter.model_dump(mode="json")}
