"""``gridllm ledger verify --database``: a keeper's own books on disk, checked row by row where they lie."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridllm.charter.board import NoticeBoard
from gridllm.charter.pin import Pins
from gridllm.errors import LedgerError, ModelError, UsageError
from gridllm.ledger.paper import Rulebook
from gridllm.models.manifest import verify_manifest
from gridllm.models.sizes import block_parameters

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter


def charter_here(url: str, data_dir: Path, grid: str | None) -> tuple[SignedCharter, Pins]:
    """As joined here; of books that lie where a maintainer keeps them, or where no grid was joined, as it was founded.

    Raises:
        CharterError: neither.
    """
    joined, founded = Pins(data_dir), Pins(data_dir / "bootstrap")
    for place in (joined, founded):
        for one in place.all():
            if one.charter.name == grid or (grid is None and f"/bootstrap/grids/{one.charter.name}/" in url):
                return one, place
    pins = joined if joined.all() else founded
    return pins.current(grid), pins


def rulebook_here(signed: SignedCharter, pins: Pins) -> Rulebook:
    """The grid's rules, with block sizes from manifests kept here: the charter's, and listed ones.

    Raises:
        LedgerError: one of the charter's is not here.
    """
    blocks = {}
    for entry in signed.charter.models:
        raw = pins.manifest(entry.model_root)
        if raw is None:
            raise LedgerError(
                f"The manifest of {entry.name!r} is not here, and prices follow from it; run this on the keeper's "
                "machine, or first: gridllm ledger verify"
            )
        blocks[entry.root] = block_parameters(verify_manifest(raw, entry.model_root))
    board = NoticeBoard(signed, pins.notices_path(signed))
    for root in {*pins.models(signed), *(one.model.model_root for one in board.every_listing)}:
        raw = pins.manifest(root)
        if raw is not None:  # else the first entry that names it is said to
            with suppress(ModelError):
                blocks[root] = block_parameters(verify_manifest(raw, root))
    return Rulebook(signed, blocks)


def check_database(
    url: str, signed: SignedCharter, rules: Rulebook, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Verify every entry, make every row of every table again and compare; what was checked, for programs.

    Raises:
        LedgerError: names the first wrong row, or the database cannot be used.
        UsageError: there is no such file.
    """
    from gridllm.ledger.store.engine import open_engine
    from gridllm.ledger.store.store import LedgerStore

    started = time.monotonic()
    engine = open_engine(_url(url))
    try:
        store = LedgerStore(engine, starter=signed.charter.economy.starter)
        store.check(rules, progress)
        sizes = store.sizes()
    finally:
        engine.dispose()
    return {"sound": True, "fault": None, "entries": sizes, "seconds": round(time.monotonic() - started, 3)}


def _url(text: str) -> str:
    """A file's name will do for SQLite's; nothing is made here."""
    if "://" not in text:
        text = f"sqlite:///{Path(text).absolute()}"
    if text.startswith("sqlite:///") and not Path(text.removeprefix("sqlite:///")).is_file():
        raise UsageError(f"There is no ledger's database {text.removeprefix('sqlite:///')}.")
    return text
