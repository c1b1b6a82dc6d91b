"""``gridllm leaderboard backup`` and ``restore``: all of a leaderboard but its key, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.database import (
    DatabaseOption,
    HomeOption,
    JsonOption,
    NameOption,
    VaultOption,
    place_at,
    rules_at,
    store_at,
)

if TYPE_CHECKING:
    from gridllm_leaderboard.backup.saving import Saved


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; replaced completely or not at all.")],
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Leave out the models' weights.")] = False,
    database: DatabaseOption = None,
    vault: VaultOption = None,
    home: HomeOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save the leaderboard (submissions, rounds, grades, lists, weights; not its key) in one file, while it runs.

    Example: gridllm leaderboard backup /mnt/backups/leaderboard.tar
    """
    from gridllm.identity.keys import load
    from gridllm_leaderboard.backup.saving import save
    from gridllm_leaderboard.vault.vault import Vault

    grid, place = place_at(home, name)
    account = load(place.key).public_key.hex()
    with ExitStack() as stack:
        store = stack.enter_context(store_at(place, database, there=True))
        folder = vault or place.vault
        weights = None if no_weights or not folder.is_dir() else Vault(folder)
        tell = stack.enter_context(_progress("Saving"))
        saved = save(file.expanduser(), store, weights, grid, account, tell)
    _say(saved, file, "saved", as_json, lacking_is_news=not no_weights)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File written by gridllm leaderboard backup.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the rows that the database has.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify the backup and write nothing.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Restore only weights that are lost or damaged; no rows.")
    ] = False,
    database: DatabaseOption = None,
    vault: VaultOption = None,
    home: HomeOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup into an empty database and folder; verify every signature, digest and root in it.

    Before anything is written it checks for the leaderboard's key, its rules, disk space and empty places.

    Example: gridllm leaderboard restore /mnt/backups/leaderboard.tar
    """
    from gridllm.identity.keys import hold, load
    from gridllm_leaderboard.backup.preparing import Ground, check_ground, survey
    from gridllm_leaderboard.backup.restoring import Target
    from gridllm_leaderboard.backup.restoring import restore as put_back
    from gridllm_leaderboard.vault.vault import Vault

    path = file.expanduser()
    if check:
        with _progress("Checking") as tell:
            found = put_back(path, None, None, tell)
        _say(found, file, "sound", as_json, lacking_is_news=True)
        return
    grid, place = place_at(home, name)
    folder = vault or place.vault
    key = load(place.key) if place.key.exists() else None
    account = None if key is None else key.public_key.hex()
    with ExitStack() as stack:
        if key is not None:
            stack.enter_context(hold(key, otherwise="restore once it has ended"))
        filled = "" if force or weights else _filled(database or place.database_url, folder)
        ground = Ground(grid, place.key, folder, account, rules_at(home, name), filled, weights)
        check_ground(survey(path), path, ground)
        store = None if weights else stack.enter_context(store_at(place, database, there=False))
        tell = stack.enter_context(_progress("Restoring"))
        restored = put_back(path, grid, Target(store, Vault(folder), force), tell)
    _say(restored, file, "restored", as_json, lacking_is_news=True)


def _filled(url: str, folder: Path) -> str:
    """Which of the places is not empty and what to do, for people. Raises LeaderboardError: no such database."""
    from gridllm_leaderboard.store.engine import holds_rows

    if holds_rows(url):
        return "The leaderboard's database is not empty: name an empty one with --database"
    models = folder / "models"
    if models.is_dir() and any(models.iterdir()):
        return f"The leaderboard's folder of weights is not empty: move {folder} away"
    return ""


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """How many bytes are done, on stderr."""
    from gridllm.cli.work import work

    with work("bytes") as shown:
        shown.tell(what)
        yield lambda done, total: shown.tell(what, done, total)


def _say(found: Saved, file: Path, done: str, as_json: bool, *, lacking_is_news: bool) -> None:
    from dataclasses import asdict

    from gridllm.cli.show import print_json, stdout

    if as_json:
        print_json({"file": str(file), **asdict(found)})
        return
    stdout().print(
        f"{file}: {found.submissions:,} submissions, {found.rounds:,} rounds, weights of {found.models:,} models "
        f"({found.size / 1e6:,.1f} MB): {done}.",
        markup=False,
    )
    if found.lacking and lacking_is_news:
        stdout().print(f"Without weights: {', '.join(one[:16] for one in found.lacking)}", markup=False)
    if done == "saved":
        stdout().print("The leaderboard's key is not in it; keep a copy of leaderboard.key apart.", markup=False)
