"""The private folder where the libp2p daemon's control sockets lie; those of killed processes are swept away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Final

PREFIX: Final = "gridllm-"
LOCK: Final = "lock"  # held for the life of the process, whatever ends it
MAX_BASE_CHARS: Final = 60  # a Unix socket's path has at most 104 bytes on macOS
SETTLED_S: Final = 60.0  # a folder younger than this may be about to get its lock


class SocketFolder:
    """A folder of mode 0700 that goes away with its owner."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(base) > MAX_BASE_CHARS:
            base = "/tmp"  # noqa: S108 - mkdtemp makes a folder of mode 0700 with an unguessable name in there
        sweep(Path(base))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._remove = weakref.finalize(self, _remove, self.path, self._lock)  # also when nobody called ``remove``

    def remove(self) -> None:
        """Delete the folder; idempotent."""
        self._remove()


def sweep(base: Path) -> None:
    """Remove the folders of processes that were killed: those whose lock nobody holds any more."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or just swept by someone else
            if folder.stat().st_uid != os.getuid() or time.time() - folder.stat().st_mtime < SETTLED_S:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
