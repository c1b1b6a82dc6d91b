"""``notices.json``: the envelopes a board keeps. Several processes of one data folder read and write the same file."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import NoticeError
from gridllm.ids import GridId

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 64 * 1024 * 1024


class NoticeFile:
    """One grid's file. Blocks: ask it from a worker thread where an event loop runs."""

    def __init__(self, path: Path, grid: GridId) -> None:
        self._path = path
        self._grid = grid
        self._seen: tuple[int, int, int] | None = None

    @property
    def changed(self) -> bool:
        """Whether it was written since it was read last; costs one stat."""
        return self._stamp() != self._seen

    def read(self) -> list[bytes]:
        """The envelopes kept, none of them verified; a damaged file counts as empty, with a log line."""
        self._seen = self._stamp()
        try:
            return self._parse()
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("The notices in %s cannot be read; peers are asked for them anew: %s", self._path, error)
            return []

    def update(self, joined: Callable[[list[bytes]], Sequence[bytes]]) -> None:
        """Replace what is kept by ``joined(what is kept)``; one process at a time.

        Raises:
            NoticeError: it cannot be written.
        """
        try:
            make_private_dir(self._path.parent)
            lock = self._path.with_name(self._path.name + ".lock")
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)  # for as long as another process writes a small file
                kept = [raw.decode("ascii") for raw in joined(self.read())]
                write_atomically(self._path, json.dumps({"grid": self._grid, "notices": kept}, indent=1).encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise NoticeError(
                f"The notice holds, but cannot be kept in {self._path} ({error.strerror}); check the disk and who owns "
                "the folder, and give it again."
            ) from error

    def _parse(self) -> list[bytes]:
        if self._path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is too large")
        stored = json.loads(self._path.read_bytes())
        if stored["grid"] != self._grid:
            raise ValueError("it is another grid's")
        return [str(text).encode("utf-8", "replace") for text in stored["notices"]]

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
