"""``gridllm leaderboard backup`` and ``restore``: all of a leaderboard but its key, in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.database import DatabaseOption, HomeOption, JsonOption, NameOption, place_at, store_at

if TYPE_CHECKING:
    from gridllm_leaderboard.backup.saving import Saved


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to write; replaced as a whole, or not at all.")],
    no_weights: Annotated[bool, typer.Option("--no-weights", help="Leave the models' weights out.")] = False,
    database: DatabaseOption = None,
    home: HomeOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save the leaderboard in one file, while it runs: submissions, rounds, grades, lists, weights. Not its key.

    Example: gridllm leaderboard backup /mnt/backups/leaderboard.tar
    """
    from gridllm.identity.keys import load
    from gridllm_leaderboard.backup.saving import save
    from gridllm_leaderboard.vault.vault import Vault

    grid, place = place_at(home, name)
    account = load(place.key).public_key.hex()
    with ExitStack() as stack:
        store = stack.enter_context(store_at(place, database, there=True))
        vault = None if no_weights or not place.vault.is_dir() else Vault(place.vault)
        tell = stack.enter_context(_progress("Saving"))
        saved = save(file.expanduser(), store, vault, grid, account, tell)
    _say(saved, file, "saved", as_json, lacking_is_news=not no_weights)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written by gridllm leaderboard backup.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the database's rows that are there.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify the backup and write nothing.")] = False,
    database: DatabaseOption = None,
    home: HomeOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup back, into an empty place; every signature, digest and root in it is verified first.

    Example: gridllm leaderboard restore /mnt/backups/leaderboard.tar
    """
    from gridllm.identity.keys import hold, load
    from gridllm_leaderboard.backup.restoring import Target
    from gridllm_leaderboard.backup.restoring import restore as put_back
    from gridllm_leaderboard.vault.vault import Vault

    if check:
        with _progress("Checking") as tell:
            found = put_back(file.expanduser(), None, None, tell)
        _say(found, file, "sound", as_json, lacking_is_news=True)
        return
    grid, place = place_at(home, name)
    with ExitStack() as stack:
        if place.key.exists():
            stack.enter_context(hold(load(place.key), otherwise="restore once it has ended"))
        store = stack.enter_context(store_at(place, database, there=False))
        tell = stack.enter_context(_progress("Restoring"))
        restored = put_back(file.expanduser(), grid, Target(store, Vault(place.vault), force), tell)
    _say(restored, file, "restored", as_json, lacking_is_news=True)


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
