"""What a restoration needs, looked at before a byte is written: a whole file, the key, rules, room, empty places."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.backup.archive import CONTENTS, Header, reading_archive
from gridllm_leaderboard.backup.restoring import NAME
from gridllm_leaderboard.vault.room import SPARE_BYTES

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules

ROWS_FACTOR: Final = 3  # bytes that a database takes while it is filled, for each of the rows


@dataclass(slots=True)
class Survey:
    """What a backup says that it has; its digests are compared while it is read."""

    header: Header
    rows: int = 0  # bytes
    weights: dict[str, int] = field(default_factory=dict)  # bytes, by root and digest


@dataclass(frozen=True, slots=True)
class Ground:
    """What is here."""

    grid: str
    key: Path  # where the leaderboard's should be
    vault: Path
    account: str | None  # of the leaderboard's key; None: it is not here
    rules: Rules | None  # that hold
    filled: str  # which of its places is not empty, and what to do, for people; "" when all are
    weights_only: bool = False


def survey(path: Path) -> Survey:
    """Look through a backup's members without reading them; seconds even for many gigabytes.

    Raises:
        LeaderboardError: there is none, it is another program's or a newer GridLLM's, or was cut short.
    """
    cut = LeaderboardError(f"The backup {path} is truncated: its end is missing. Use another one.")
    with reading_archive(path) as reader:
        found, size, last = Survey(reader.header()), path.stat().st_size, ""
        for name, end, bytes_ in reader.names():
            if end > size:
                raise cut
            match = NAME.fullmatch(name)
            if match is not None and match["table"]:
                found.rows += bytes_
            elif match is not None:
                found.weights[name] = bytes_
            last = name
        if last != CONTENTS:
            raise cut
    return found


def check_ground(found: Survey, path: Path, ground: Ground) -> None:
    """Whether all is here that the restored leaderboard needs to go on.

    Raises:
        LeaderboardError: names the first thing that is not, and what to do.
    """
    header = found.header
    if header.grid != ground.grid:
        raise LeaderboardError(f"{path} is the backup of another grid's leaderboard ({header.grid[:16]}…).")
    _check_key(header.account, ground)
    if ground.filled:
        raise LeaderboardError(
            f"{ground.filled}, replace what is there with --force, or restore only the weights with --weights."
        )
    if ground.weights_only and not found.weights:
        raise LeaderboardError(f"{path} was taken without weights (--no-weights): there are none to restore.")
    folder = next(one for one in (ground.vault, *ground.vault.absolute().parents) if one.exists())
    here = ground.vault / "models"
    coming = sum(size for name, size in found.weights.items() if not (here / name.split("/")[1]).is_dir())
    needed = coming + SPARE_BYTES + (0 if ground.weights_only else ROWS_FACTOR * found.rows)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise LeaderboardError(
            f"The backup takes {needed / 1e6:,.0f} MB on the disk of {folder}, which has {free / 1e6:,.0f} MB free; "
            "make room first."
        )


def _check_key(account: str, ground: Ground) -> None:
    """The backup's leaderboard is that of the key here, and of the rules that hold."""
    key = ground.key
    lost = "if it is lost for good, see After a lost key in docs/leaderboard.md"
    if ground.account is None:
        raise LeaderboardError(
            f"The leaderboard's key is not here, and no backup has it: put your copy of it to {key} ({lost})."
        )
    if ground.account != account:
        raise LeaderboardError(
            f"The backup is of the leaderboard {account[:16]}…, and {key} is the key of {ground.account[:16]}…: put "
            f"that leaderboard's key in its place ({lost})."
        )
    if ground.rules is None:
        raise LeaderboardError(
            "This machine knows no leaderboard rules; they arrive with the grid's notices while gridllm bootstrap "
            "run is up. Restore once it reports a leaderboard."
        )
    if ground.rules.account != account:
        raise LeaderboardError(
            f"The rules that hold ({ground.rules.serial}) name another leaderboard, {ground.rules.account[:16]}…; "
            "issue rules for the one of this backup first: gridllm leaderboard init"
        )
