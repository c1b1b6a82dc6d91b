"""What the commands share that open a leaderboard's database, whether or not a leaderboard runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.place import Place
    from gridllm_leaderboard.store.store import LeaderboardStore

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The maintainer's folder; the default is in the data folder.")
]
NameOption = Annotated[str | None, typer.Option(help="Which grid, if several were founded here.")]
DatabaseOption = Annotated[
    str | None, typer.Option(help="URL of the leaderboard's database, as given to run; default: a SQLite file.")
]
VaultOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder for weights, as given to run; default: beside the key.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def place_at(home: Path | None, name: str | None) -> tuple[str, Place]:
    """The grid's id and where its leaderboard lies. Raises UsageError: no such grid was founded here."""
    from gridllm_bootstrap.cli.common import grid_at, home_at
    from gridllm_leaderboard.place import Place

    here = home_at(home)
    signed = grid_at(here, name)
    return signed.grid, Place(here.folder(signed.charter.name))


def rules_at(home: Path | None, name: str | None) -> Rules | None:
    """The rules that this machine knows; None: no leaderboard was opened, or its notices did not come yet."""
    from gridllm.charter.board import NoticeBoard
    from gridllm_bootstrap.cli.common import grid_at, home_at

    here = home_at(home)
    signed = grid_at(here, name)
    return NoticeBoard(signed, here.pins.notices_path(signed)).rules


@contextmanager
def store_at(place: Place, database: str | None, *, there: bool) -> Iterator[LeaderboardStore]:
    """The leaderboard's database; ``there``: it must exist. Raises LeaderboardError, UsageError."""
    from gridllm.errors import UsageError
    from gridllm_leaderboard.store.engine import open_engine
    from gridllm_leaderboard.store.store import LeaderboardStore

    if there and database is None and not place.database.exists():
        raise UsageError(
            f"There is no leaderboard's database {place.database}; run gridllm leaderboard run first, or name another "
            "with --database."
        )
    store = LeaderboardStore(open_engine(database or place.database_url))
    try:
        yield store
    finally:
        store.close()
