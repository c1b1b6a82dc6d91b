"""What a grader signed, on disk, so that it never says two things: a grade that was signed is sent again as it is.

::

    grading/<grid>/<account>/unable.json                                      what it cannot grade (unable.py)
    grading/<grid>/<account>/fetched/<root>                                   weights here to be graded (obtain.py)
    grading/<grid>/<account>/<draw>-<submission>/grade.json or failure.json   the envelope
                                                 <list>.results.jsonl         results, by the child
                                                 journal.jsonl, job.json, …   the child's, while it runs
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import LeaderboardError

SHORT: Final = 24  # hex digits of an id in a folder's name
KEEP_S: Final = 60 * 86400  # after which a round's folder is swept out

GRADE: Final = "grade.json"
FAILURE: Final = "failure.json"


class Ledge:
    """One account's gradings in one grid."""

    def __init__(self, data_dir: Path, grid: str, account: str) -> None:
        self._folder = data_dir / "grading" / grid[:SHORT] / account[:SHORT]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else grades with this account on this machine meanwhile.

        Raises:
            LeaderboardError: somebody does, or the folder cannot be written.
        """
        try:
            make_private_dir(self._folder)
            lock = (self._folder / "lock").open("a")
        except OSError as error:
            raise LeaderboardError(f"{self._folder} cannot be written ({error.strerror}).") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LeaderboardError(
                    "Another `gridllm leaderboard grade` of this account runs on this machine; stop it first."
                ) from None
            yield

    @property
    def unable(self) -> Path:
        """The file of what this grader is not able to grade."""
        return self._folder / "unable.json"

    @property
    def fetched(self) -> Path:
        """The folder that notes which weights are here for gradings alone."""
        return self._folder / "fetched"

    def folder(self, draw: str, submission: str) -> Path:
        """Where one model's grading in one round lies. Raises LeaderboardError: it cannot be written."""
        path = self._folder / f"{draw[:SHORT]}-{submission[:SHORT]}"
        try:
            make_private_dir(path)
        except OSError as error:
            raise LeaderboardError(f"{path} cannot be written ({error.strerror}).") from error
        return path

    def sweep(self) -> None:
        """Take away what nobody will ask for again."""
        for path in self._folder.glob("*-*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - KEEP_S:
                    shutil.rmtree(path)


def signed_in(folder: Path) -> tuple[bytes, bool] | None:
    """What was signed before, and whether it is a failure; None: nothing yet."""
    for name, failure in ((GRADE, False), (FAILURE, True)):
        with contextlib.suppress(FileNotFoundError):
            return (folder / name).read_bytes(), failure
    return None


def keep_signed(folder: Path, raw: bytes, failure: bool) -> bytes:
    """Keep an envelope before it is sent; returns what is kept, which is the first that ever was. Raises OSError."""
    held = signed_in(folder)
    if held is not None:
        return held[0]
    write_atomically(folder / (FAILURE if failure else GRADE), raw, mode=0o600)
    return raw
