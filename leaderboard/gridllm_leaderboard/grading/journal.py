"""What a model scored already, on disk, line by line: a grader that is killed goes on at the item.

The first line says what is graded, so that a journal is never gone on with for another model, draw or way of running;
each further line is one item. A line that was cut off by a crash is cut away.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

FLUSH_ITEMS: Final = 16  # lines that a crash may lose
FLUSH_S: Final = 2.0  # or those of so long


class Scored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item's line."""

    task: str
    item: str  # digest
    logliks: Annotated[list[float], Meta(max_length=64)]  # nats


class Journal:
    """One job's journal; one process writes it."""

    def __init__(self, path: Path, about: str) -> None:
        """Open or begin it.

        Args:
            about: all that the log-likelihoods depend on; a journal about something else begins anew.

        Raises:
            OSError: it cannot be read or written.
        """
        self._scored: dict[tuple[str, str], list[float]] = {}
        self._file = path.open("a+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # a process that was left behind is about to end
        self._unsafe = 0
        self._flushed_at = time.monotonic()
        self._file.seek(0)
        raw = self._file.read()
        lines = raw.split(b"\n")[:-1]  # what stands behind the last line end was cut off
        if not lines or lines[0] != about.encode():
            self._file.truncate(0)
            self._file.write(about.encode() + b"\n")
            self._sync()
            return
        sound = len(lines[0]) + 1
        for line in lines[1:]:
            try:
                one = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            self._scored[one.task, one.item] = one.logliks
            sound += len(line) + 1
        if sound < len(raw):
            self._file.truncate(sound)

    def __len__(self) -> int:
        return len(self._scored)

    def get(self, task: str, item: str) -> list[float] | None:
        """What was found for an item; None: it is still to be scored."""
        return self._scored.get((task, item))

    def add(self, task: str, item: str, logliks: list[float]) -> None:
        """Keep one item's result; on disk for sure after ``flush``, or a few items later. Raises OSError."""
        self._scored[task, item] = logliks
        self._file.write(msgspec.json.encode(Scored(task, item, logliks)) + b"\n")
        self._unsafe += 1
        if self._unsafe >= FLUSH_ITEMS or time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Everything added is on disk. Raises OSError."""
        if self._unsafe:
            self._sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsafe, self._flushed_at = 0, time.monotonic()


_decoder = msgspec.json.Decoder(Scored)
