"""A measured table in a page of the documentation, between ``<!-- name:start -->`` and ``<!-- name:end -->``."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, name: str, table: str) -> None:
    """Replace what stands there; raises ValueError where the page has no such place."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, opened, rest = page.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{page} has no place for this table: lines {start} and {end}")
    page.write_text(f"{before}{start}\n{table}{end}{after}")
